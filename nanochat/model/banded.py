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
from nanochat.model.sizes import CPU_BAND, CPU_LONGEST_ROW

GPU_BAND = 128
"""At the least: on a GPU a launch costs more than masked keys do."""


class Banded:
    """Bands over windows; where the window is the whole of a long row, torch's causal kernel."""

    name = "banded"

    def by_hand(self, device: torch.device) -> bool:
        """Whether a band is computed by products of our own, as on a CPU, or by torch's kernel."""
        return device.type == "cpu"

    def mask(self, positions: int, window: int, device: torch.device, documents: Tensor | None) -> Any:
        """None, or who is near whom in a band, (b, reach + b), and the documents."""
        by_hand = self.by_hand(device)
        if window >= positions and documents is None and not (by_hand and positions <= CPU_LONGEST_ROW):
            return None
        reach = min(window, positions - 1)
        b = CPU_BAND if by_hand else max(GPU_BAND, reach)
        place = torch.arange(reach + b, device=device)
        distance = place[reach:, None] - place[None, :]
        return (distance >= 0) & (distance <= reach), documents

    def attend(self, q: Tensor, k: Tensor, v: Tensor, window: int, mask: Any) -> Tensor:  # noqa: ARG002
        if mask is None:
            return attend(q, k, v)
        near, documents = mask
        if self.by_hand(q.device):
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
    """q (B, T, H, D); k, v (B, T, Hkv, D) → (B, T, H, D), the weights of each band kept for the backward pass.

    Scores and their softmax are float32 where q and k are less. The queries of the heads that share a key stand below
    one another, (B·Hkv, G, b, D), so that each key is read once for all of them.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, near: Tensor, documents: Tensor | None) -> Tensor:
        queries, keys, values = _grouped(q, k.size(2)), _heads_first(k), _heads_first(v)
        wide = torch.promote_types(q.dtype, torch.float32)
        scale, wide_queries, wide_keys = q.size(-1) ** -0.5, queries.to(wide), keys.to(wide)
        y, kept = torch.empty_like(queries), []
        for own, seen in _bands(q.size(1), near):
            scores = _band(wide_queries, own) @ wide_keys[:, seen].mT  # (B·Hkv, G·b, s)
            scores = _masked(scores.mul_(scale), _cut(near, documents, own, seen))
            weights = torch.softmax(scores, dim=-1).to(q.dtype)
            y[:, :, own] = (weights @ values[:, seen]).view(y[:, :, own].shape)
            kept.append(weights)
        ctx.save_for_backward(queries, keys, values, near, *kept)
        return _heads_last(y, q)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, near, *kept = ctx.saved_tensors
        scale, outputs = upstream.size(-1) ** -0.5, _grouped(upstream, keys.size(0) // upstream.size(0))
        dq, dk, dv = torch.empty_like(queries), torch.zeros_like(keys), torch.zeros_like(values)
        for (own, seen), weights in zip(_bands(upstream.size(1), near), kept, strict=True):
            dy, band = _band(outputs, own), _band(queries, own)
            dv[:, seen] += weights.mT @ dy
            dw = dy @ values[:, seen].mT  # (B·Hkv, G·b, s)
            ds = torch._softmax_backward_data(dw, weights, -1, weights.dtype).mul_(scale)
            dq[:, :, own] = (ds @ keys[:, seen]).view(dq[:, :, own].shape)
            dk[:, seen] += ds.mT @ band
        rows = upstream.size(0)
        return _heads_last(dq, upstream), _rows_back(dk, rows), _rows_back(dv, rows), None, None


def _heads_first(x: Tensor) -> Tensor:
    """(B, T, H, D) → (B·H, T, D)."""
    return x.transpose(1, 2).flatten(0, 1).contiguous()


def _rows_back(x: Tensor, rows: int) -> Tensor:
    """(B·H, T, D) → (B, T, H, D)."""
    return x.view(rows, -1, *x.shape[1:]).transpose(1, 2)


def _grouped(q: Tensor, key_heads: int) -> Tensor:
    """(B, T, H, D) → (B·Hkv, G, T, D)."""
    return _heads_first(q).view(q.size(0) * key_heads, -1, q.size(1), q.size(3))


def _heads_last(x: Tensor, like: Tensor) -> Tensor:
    """(B·Hkv, G, T, D) → the (B, T, H, D) of `like`."""
    return _rows_back(x.flatten(0, 1), like.size(0))


def _band(x: Tensor, own: slice) -> Tensor:
    """(B·Hkv, G, T, D) → (B·Hkv, G·b, D): the band's part of each head, one below the other."""
    return x[:, :, own].flatten(1, 2)


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    """−∞ where a key is not seen. scores (B·Hkv, G·b, s); mask (b, s), or (B, 1, b, s)."""
    rows = 1 if mask.dim() == 2 else mask.size(0)
    by_row = scores.view(rows, -1, *mask.shape[-2:])  # (1 or B, heads, b, s)
    hidden = torch.zeros(mask.shape, dtype=scores.dtype).masked_fill_(~mask, -torch.inf)
    by_row += hidden
    return scores
