"""Attention band by band: a row is cut into bands of queries, and each is given only the keys that it can reach.

Exact, for nothing else is in reach. Masks and work grow with T · (window + band), not with T², whatever the kernels can
do with a window. In: as `attention_backends.Backend`. On a CPU that trains, the bands go through torch's kernel
directly: autograd would pad every band's gradient to the whole row.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from nanochat.model.attention import attend

CPU_BAND = 128
"""Queries in a band: of 64, 128 and 256 the best or near it. `pytest tests/benchmarks/test_attention_speed.py
--benchmark-only`, on one core, 8 rows of 512 with 4 heads of 64 and a window of 128: 109 ms, 207 with a dense mask; one
row of 2,048 with 6 heads of 128 and a window of 512: 329 ms and 1,135."""
CPU_SHORT_ROW = 512
"""Up to here whole rows go by bands as well, 147 ms and 197; at 2,048 torch's causal kernel is as fast."""


class Banded:
    """Bands over windows; where the window is the whole of a long row, torch's causal kernel."""

    name = "banded"

    def mask(self, positions: int, window: int, device: torch.device, documents: Tensor | None) -> Any:
        """None, or who is near whom in a band, (b, reach + b), and the documents."""
        on_cpu = device.type == "cpu"
        if window >= positions and documents is None and not (on_cpu and positions <= CPU_SHORT_ROW):
            return None
        reach = min(window, positions - 1)
        b = CPU_BAND if on_cpu else max(CPU_BAND, reach)  # elsewhere a launch costs more than masked keys do
        place = torch.arange(reach + b, device=device)
        distance = place[reach:, None] - place[None, :]
        return (distance >= 0) & (distance <= reach), documents

    def attend(self, q: Tensor, k: Tensor, v: Tensor, window: int, mask: Any) -> Tensor:  # noqa: ARG002
        if mask is None:
            return attend(q, k, v)
        near, documents = mask
        if q.device.type == "cpu" and torch.is_grad_enabled():
            groups = q.size(2) // k.size(2)
            if groups > 1:  # the kernel knows no groups
                k, v = k.repeat_interleave(groups, dim=2), v.repeat_interleave(groups, dim=2)
            y: Tensor = _OnCPU.apply(q, k, v, near, documents)
            return y
        parts = [
            attend(q[:, own], k[:, seen], v[:, seen], _cut(near, documents, own, seen))
            for own, seen in _bands(q.size(1), near)
        ]
        return torch.cat(parts, dim=1)


def _bands(positions: int, near: Tensor) -> Iterator[tuple[slice, slice]]:
    """The queries of each band, and the keys that one of them reaches."""
    b = near.size(0)
    reach = near.size(1) - b
    for start in range(0, positions, b):
        end = min(positions, start + b)
        yield slice(start, end), slice(max(0, start - reach), end)


def _cut(near: Tensor, documents: Tensor | None, own: slice, seen: slice) -> Tensor:
    """One band's mask: (queries, keys), or (B, 1, queries, keys) with documents."""
    reach = near.size(1) - near.size(0)
    before, count = own.start - seen.start, own.stop - own.start
    mask = near[:count, reach - before : reach + count]
    if documents is None:
        return mask
    return (mask & (documents[:, own, None] == documents[:, None, seen])).unsqueeze(1)


class _OnCPU(torch.autograd.Function):
    """q, k, v (B, T, H, D) → (B, T, H, D) by torch's own kernel for CPUs, which has a backward pass to call.

    Every band reads its part of q, k, v where it lies, and its gradients are written where they belong.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, near: Tensor, documents: Tensor | None) -> Tensor:
        y, sums = torch.empty_like(q), []
        for own, seen in _bands(q.size(1), near):
            part, log_sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                *_heads_first(q[:, own], k[:, seen], v[:, seen]),
                attn_mask=_added(_cut(near, documents, own, seen), q.dtype),
            )
            y[:, own] = part.transpose(1, 2)
            sums.append(log_sums)
        ctx.save_for_backward(q, k, v, y, near, documents, *sums)
        return y

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, y, near, documents, *sums = ctx.saved_tensors
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for (own, seen), log_sums in zip(_bands(q.size(1), near), sums, strict=True):
            of_q, of_k, of_v = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                *_heads_first(upstream[:, own], q[:, own], k[:, seen], v[:, seen], y[:, own]),
                log_sums,
                0.0,
                False,
                attn_mask=_added(_cut(near, documents, own, seen), q.dtype),
            )
            dq[:, own] = of_q.transpose(1, 2)
            dk[:, seen] += of_k.transpose(1, 2)
            dv[:, seen] += of_v.transpose(1, 2)
        return dq, dk, dv, None, None


def _heads_first(*tensors: Tensor) -> list[Tensor]:
    return [x.transpose(1, 2) for x in tensors]


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What the kernel adds to the scores: 0 where a key is seen, −∞ elsewhere."""
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, -torch.inf)
