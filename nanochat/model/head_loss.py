"""The loss of a head, chunk by chunk over the tokens, so that the logits of all of them never stand in memory.

In: hidden states, the head's weight, targets. Out: losses in nats. The gradients of a chunk's logits are turned into
those of hidden states and weight at once, in the forward pass, and the chunk is forgotten: nothing is computed twice.
Only where every token's loss is asked for alone, and its gradient too, are the logits computed again for the backward
pass. All in float32 but the matrix products, which are in the dtype of the hidden states.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nanochat.model.sizes import CACHED_LOGITS


def softcapped(logits: Tensor, cap: float) -> Tensor:
    """cap·tanh(logits/cap); the logits themselves where cap is 0. Without gradients it overwrites them."""
    if not cap:
        return logits
    if torch.is_grad_enabled():
        return cap * torch.tanh(logits / cap)
    return logits.div_(cap).tanh_().mul_(cap)  # a fourth of the time: no memory is taken anew, page by page


class Head(NamedTuple):
    """How logits and their loss are computed. A tuple, which torch.compile can look into."""

    vocabulary: int
    """Rows of the weight that count; the others are padding."""
    softcap: float
    """0: none."""
    chunk: int
    """Tokens whose logits stand at once."""


def head_loss(hidden: Tensor, weight: Tensor, targets: Tensor, head: "Head", *, reduction: str = "mean") -> Tensor:
    """Cross-entropy, in nats, of the softcapped logits hidden · weightᵀ.

    hidden (N, C); weight (at least head.vocabulary, C), used in the dtype of hidden; targets (N,) int64, −1 where there
    is none. reduction: "mean" or "sum" over the targets, or "none" for (N,), 0 without a target.
    """
    if reduction == "none":
        each: Tensor = _Each.apply(hidden, weight, targets, head)
        return each
    if torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad):
        total: Tensor = _Summed.apply(hidden, weight, targets, head)
    else:
        total = _losses(hidden, weight, targets, head).sum()
    return total / (targets >= 0).sum() if reduction == "mean" else total


class _Summed(torch.autograd.Function):
    """The sum of the losses. What comes from behind it is one number, so the gradients can be made beforehand."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, head: Head) -> Tensor:
        ones = torch.ones(targets.shape, device=targets.device)
        losses, dh, dw = _with_gradients(hidden, weight, targets, head, ones, ctx.needs_input_grad)
        ctx.save_for_backward(dh, dw)
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        dh, dw = (None if saved is None else saved.mul_(upstream) for saved in ctx.saved_tensors)
        return dh, dw, None, None


class _Each(torch.autograd.Function):
    """Every token's loss. What comes from behind is a number for each, known only then."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, head: Head) -> Tensor:
        ctx.save_for_backward(hidden, weight, targets)
        ctx.head = head
        return _losses(hidden, weight, targets, head)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, targets = ctx.saved_tensors
        _, dh, dw = _with_gradients(hidden, weight, targets, ctx.head, upstream, ctx.needs_input_grad)
        return dh, dw, None, None


def _losses(hidden: Tensor, weight: Tensor, targets: Tensor, head: Head) -> Tensor:
    """(N,) float32."""
    cast = weight[: head.vocabulary].to(hidden.dtype)
    losses = []
    for part in _parts(len(targets), head.chunk):
        z, _ = _shifted(F.linear(hidden[part], cast).float(), head.softcap)
        losses.append(F.cross_entropy(z, targets[part], ignore_index=-1, reduction="none"))
    return torch.cat(losses)


def _with_gradients(
    hidden: Tensor, weight: Tensor, targets: Tensor, head: Head, scale: Tensor, wanted: Sequence[bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Losses (N,), and the gradients of Σ scale·loss: of hidden, and in float32 of weight, where they are wanted."""
    cast = weight[: head.vocabulary].to(hidden.dtype)
    losses = torch.empty(targets.shape, device=targets.device)
    dh = torch.empty_like(hidden) if wanted[0] else None
    dw = torch.zeros(weight.shape, device=weight.device) if wanted[1] else None
    counting = None if dw is None else dw[: head.vocabulary]
    for part in _parts(len(targets), head.chunk):
        x = hidden[part]
        dz = F.linear(x, cast).float()  # (n, V)
        losses[part] = _into_gradients(dz, targets[part], scale[part], head.softcap)
        dz = dz.to(x.dtype)
        if dh is not None:
            dh[part] = dz @ cast
        if counting is not None and x.dtype == torch.float32:
            counting.addmm_(dz.T, x)
        elif counting is not None:
            counting += dz.T @ x
        del dz  # or it would stand beside the next chunk's
    return losses, dh, dw


def _into_gradients(logits: Tensor, targets: Tensor, scale: Tensor, softcap: float) -> Tensor:
    """The losses (n,) of logits (n, V), which become the gradients of Σ scale·loss with respect to them.

    On a CPU some rows at a time, so that what comes of a logit is in the processor's cache when it is needed again; not
    where it is compiled, for a compiler unrolls them: the code of each part anew, minutes in the making.
    """
    n, vocabulary = logits.shape
    by_hand = logits.device.type == "cpu" and not torch.compiler.is_compiling()
    rows = max(1, CACHED_LOGITS // vocabulary) if by_hand else n
    parts = _parts(n, rows)
    return torch.cat([_rows_into_gradients(logits[own], targets[own], scale[own], softcap) for own in parts])


def _rows_into_gradients(logits: Tensor, targets: Tensor, scale: Tensor, softcap: float) -> Tensor:
    """With z what `_shifted` gives: d loss/d logits = (softmax(z) − onehot(target)) · dz/d logits."""
    known = targets >= 0
    index = targets.clamp(min=0).unsqueeze(1)  # (n, 1)
    factor = (scale * known).unsqueeze(1)
    z, squashed = _shifted(logits, softcap)
    target, largest = z.gather(1, index), z.amax(dim=1, keepdim=True)
    p = z.sub_(largest).exp_()
    total = p.sum(dim=1, keepdim=True)
    losses = (total.log() + largest - target).squeeze(1) * known
    if squashed is None:
        p.mul_(factor / total).scatter_add_(1, index, -factor)
    else:
        slope = squashed.addcmul_(squashed, squashed, value=-1)  # dz/d logits = 4·s·(1 − s)
        factor = 4 * factor
        at_target = factor * slope.gather(1, index)
        slope.mul_(p.mul_(factor / total)).scatter_add_(1, index, -at_target)
    return losses


def _shifted(logits: Tensor, softcap: float) -> tuple[Tensor, Tensor | None]:
    """The softcapped logits, raised by the softcap, which no softmax sees; and s = σ(2·logits/cap), where there is one.

    cap·tanh(x/cap) = 2·cap·σ(2x/cap) − cap, and on a CPU σ takes a sixth of tanh's time. Overwrites the logits.
    """
    if not softcap:
        return logits, None
    squashed = logits.mul_(2 / softcap).sigmoid_()
    return squashed * (2 * softcap), squashed


def _parts(count: int, chunk: int) -> Iterator[slice]:
    for start in range(0, count, chunk):
        yield slice(start, min(count, start + chunk))
