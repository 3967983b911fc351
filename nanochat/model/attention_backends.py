"""Ways to compute causal attention over windows and documents, and the choice of one: tried out, not looked up.

In: a name of `nanochat.hardware.ATTENTION`, the shape of the heads, the device. Out: a `Backend`, and a sentence that
says why it is this one. A kernel that is installed counts only if a small launch here, forward and backward, gives
what float64 gives. All backends compute the same, so the choice is execution. Not here: attention through a cache,
whose mask the cache makes.
"""

import importlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Protocol

import attrs
import torch
from torch import Tensor

from nanochat.errors import stage_failure
from nanochat.model.attention import attend, visible
from nanochat.model.banded import Banded


class Backend(Protocol):
    """Causal attention in which position t sees t − window … t, of its own document where there are documents."""

    @property
    def name(self) -> str:
        """As [hardware] calls it."""

    def mask(self, positions: int, window: int, device: torch.device, documents: Tensor | None) -> Any:
        """What `attend` needs beside q, k, v: made once a forward pass for all blocks of one window, of T positions.

        documents: None, or (B, T), a number for each document of a row.
        """

    def attend(self, q: Tensor, k: Tensor, v: Tensor, window: int, mask: Any) -> Tensor:
        """q (B, T, H, D); k, v (B, T, Hkv, D) → (B, T, H, D)."""


class Dense:
    """torch's scaled_dot_product_attention, which takes its fastest kernel; windows and documents as a (T, T) mask."""

    name = "dense"

    def mask(self, positions: int, window: int, device: torch.device, documents: Tensor | None) -> Tensor | None:
        if window >= positions and documents is None:
            return None
        return visible(positions, window, device, documents)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, window: int, mask: Tensor | None) -> Tensor:  # noqa: ARG002
        return attend(q, k, v, mask)


class Flex:
    """torch's FlexAttention, which skips what a block mask leaves out; compiled where it has gradients, not on CPUs."""

    name = "flex"

    def __init__(self, device: torch.device) -> None:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        compiled: Any = torch.compile if device.type != "cpu" else lambda function: function
        self.kernel, self.create = compiled(flex_attention), compiled(create_block_mask)
        self.windows = cache(self._block_mask)
        """Block masks of windows alone: the same in every forward pass."""

    def mask(self, positions: int, window: int, device: torch.device, documents: Tensor | None) -> Any:
        if documents is None:
            return self.windows(positions, window, device) if window < positions else None
        return self._block_mask(positions, window, device, documents)

    def _block_mask(self, positions: int, window: int, device: torch.device, documents: Tensor | None = None) -> Any:
        def near(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:  # noqa: ARG001 (FlexAttention's signature)
            return (t >= s) & (t - s <= window)

        def near_in_document(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
            assert documents is not None
            return near(b, h, t, s) & (documents[b, t] == documents[b, s])

        rule, rows = (near, None) if documents is None else (near_in_document, documents.size(0))
        return self.create(rule, rows, None, positions, positions, device=str(device))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, window: int, mask: Any) -> Tensor:  # noqa: ARG002
        if mask is None:
            return attend(q, k, v)
        heads_first = (x.transpose(1, 2) for x in (q, k, v))
        y: Tensor = self.kernel(*heads_first, block_mask=mask, enable_gqa=q.size(2) != k.size(2))
        return y.transpose(1, 2)


@attrs.frozen
class Flash:
    """FlashAttention 3 or 4, where somebody has installed it; documents by another backend."""

    name: str
    kernel: Callable[..., Any]
    """(q, k, v, causal=, window_size=(left, right)) → y, or a tuple that begins with it."""
    otherwise: Backend

    def mask(self, positions: int, window: int, device: torch.device, documents: Tensor | None) -> Any:
        return None if documents is None else self.otherwise.mask(positions, window, device, documents)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, window: int, mask: Any) -> Tensor:
        if mask is not None:
            return self.otherwise.attend(q, k, v, window, mask)
        reach = {"window_size": (window, 0)} if window < q.size(1) else {}
        found = self.kernel(q, k, v, causal=True, **reach)
        y: Tensor = found[0] if isinstance(found, tuple) else found
        return y


FLASH_MODULES = {"flash4": "flash_attn.cute", "flash3": "flash_attn_interface"}
"""Where each release has its flash_attn_func."""
AUTO_ON_CUDA = ("flash4", "flash3", "flex")
"""Tried in this order; elsewhere, and where none works, it is banded."""


@attrs.frozen
class Heads:
    """The shape that a kernel is tried with."""

    query: int
    key: int
    dim: int


@attrs.frozen
class Choice:
    """A backend."""

    backend: Backend
    reason: str
    """Why it is this one; empty where there was nothing to choose from."""


def choose(wanted: str, heads: Heads, device: torch.device, dtype: torch.dtype) -> Choice:
    """The backend called `wanted`, or for "auto" the fastest that works. StageError E115 where a named one does not."""
    if wanted == "auto":
        return _fastest(heads, device, dtype)
    try:
        backend = made(wanted, device)
        fault = disagreement(backend, heads, device, dtype)
    except Exception as error:
        fault = _said(error)
    if fault:
        raise stage_failure(
            "E115",
            f'attention = "{wanted}" does not work here: {fault}',
            help='set attention = "auto" in [hardware]; the result stays the same',
        )
    return Choice(backend, "as [hardware] asks")


def _fastest(heads: Heads, device: torch.device, dtype: torch.dtype) -> Choice:
    tried: list[str] = []
    for name in AUTO_ON_CUDA if device.type == "cuda" else ():
        try:
            backend = made(name, device)
            fault = disagreement(backend, heads, device, dtype)
        except Exception as error:  # a kernel may fail in any way: that is what the trial is for
            fault = _said(error)
        if not fault:
            return Choice(backend, "; ".join([*tried, "tried out: it agrees with float64"]))
        tried.append(f"not {name}: {fault}")
    return Choice(Banded(), "; ".join(tried))


def made(name: str, device: torch.device) -> Backend:
    """The backend of that name, untried. ImportError where it is not installed."""
    match name:
        case "dense":
            return Dense()
        case "banded":
            return Banded()
        case "flex":
            return Flex(device)
    return Flash(name, importlib.import_module(FLASH_MODULES[name]).flash_attn_func, Banded())


TRIAL_POSITIONS, TRIAL_WINDOW = 200, 70
"""Neither a multiple of anything that kernels are tiled by."""
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 5e-3}
"""Of values about 1 in size; what a wrong mask or a wrong head does is of that size as well."""


def disagreement(backend: Backend, heads: Heads, device: torch.device, dtype: torch.dtype) -> str:
    """How outputs or gradients of a small launch differ from float64's, or nothing. Raises what the kernel raises."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, TRIAL_POSITIONS, count, heads.dim) for count in (heads.query, heads.key, heads.key, heads.query)]
    q, k, v, upstream = (torch.randn(shape, generator=generator) for shape in shapes)
    documents = (torch.arange(TRIAL_POSITIONS) // 90).expand(2, -1)
    for window, rows in ((TRIAL_WINDOW, None), (TRIAL_POSITIONS, None), (TRIAL_WINDOW, documents)):
        cpu = torch.device("cpu")
        exact = _with_gradients(Dense(), (q, k, v, upstream), window, rows, cpu, torch.float64)
        found = _with_gradients(backend, (q, k, v, upstream), window, rows, device, dtype)
        for what, x, y in zip(("output", "gradient of q", "gradient of k", "gradient of v"), exact, found, strict=True):
            off = float((x - y.cpu().double()).abs().max())
            if not off <= TOLERANCE[dtype] * max(1.0, float(x.abs().max())):
                return f"its {what} is off by {off:.2g} in {str(dtype).removeprefix('torch.')}"
    return ""


def _with_gradients(
    backend: Backend,
    values: Sequence[Tensor],
    window: int,
    documents: Tensor | None,
    device: torch.device,
    dtype: torch.dtype,
) -> list[Tensor]:
    # Rounded first, so that all are given the same numbers.
    rounded = [x.to(torch.bfloat16).to(device, dtype) for x in values]
    inputs = [x.requires_grad_() for x in rounded[:3]]
    rows = None if documents is None else documents.to(device)
    mask = backend.mask(TRIAL_POSITIONS, window, device, rows)
    y = backend.attend(inputs[0], inputs[1], inputs[2], window, mask)
    return [y.detach(), *torch.autograd.grad(y, inputs, rounded[3])]


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0]}"
