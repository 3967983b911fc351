"""RMS norm, rotary rotation and relu², which do little arithmetic and are over memory's speed, not the processor's.

In and out: tensors. On a CPU they go over memory as seldom as they can, and where gradients are wanted each has its
own, written from the formula: half as often as autograd's, operation by operation. There a norm takes 0.36 of the time,
the others 0.6, and a d4's pass 0.88 (tests/benchmarks/test_pointwise_speed.py). Elsewhere they are torch's, which a
compiler can fuse.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def norm(x: Tensor) -> Tensor:
    """RMSNorm without parameters over the last dimension: x / √(mean x² + ε), ε of x's dtype; computed in float32."""
    if not _by_hand(x):
        return F.rms_norm(x, (x.size(-1),))
    y: Tensor = _Norm.apply(x) if _wants_gradient(x) else _normed(x)[0]
    return y


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (x[i], x[i + D/2]) by −θ. x (B, T, H, D); cos, sin broadcast to (B, T, H, D/2)."""
    if not _by_hand(x):
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)
    y: Tensor = _Rotation.apply(x, cos, sin) if _wants_gradient(x) else _rotated(x, cos, sin, 1)
    return y


def relu_squared(x: Tensor) -> Tensor:
    """max(x, 0)²."""
    if not _by_hand(x):
        return F.relu(x).square()
    y: Tensor = _ReluSquared.apply(x) if _wants_gradient(x) else F.relu(x).square_()
    return y


def _by_hand(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _wants_gradient(x: Tensor) -> bool:
    return x.requires_grad and torch.is_grad_enabled()


class _Norm(torch.autograd.Function):
    """y = r·x with r = 1/√(mean x² + ε); dx = r·(dy − y·mean(dy·y))."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y, r = _normed(x)
        ctx.save_for_backward(y, r)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        y, r = ctx.saved_tensors
        along = (dy * y).sum(dim=-1, keepdim=True, dtype=r.dtype).mul_(-1 / y.size(-1))
        dx: Tensor = torch.addcmul(dy, y, along).mul_(r)
        return dx.to(y.dtype)


def _normed(x: Tensor) -> tuple[Tensor, Tensor]:
    """y and r."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
    r = length.square_().mul_(1 / x.size(-1)).add_(torch.finfo(x.dtype).eps).rsqrt_()
    return (x * r).to(x.dtype), r


class _Rotation(torch.autograd.Function):
    """The gradient of a rotation is the rotation back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotated(dy, cos, sin, -1), None, None


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    y = x * torch.cat((cos, cos), dim=-1)  # the longer the innermost loop, the better
    (a, b), (first, second) = x.chunk(2, dim=-1), y.chunk(2, dim=-1)
    first.addcmul_(b, sin, value=sign)
    second.addcmul_(a, sin, value=-sign)
    return y


class _ReluSquared(torch.autograd.Function):
    """r² with r = max(x, 0); dx = 2·r·dy, for r is 0 where x was less."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        r = F.relu(x)
        ctx.save_for_backward(r)
        return r * r

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (r,) = ctx.saved_tensors
        dx: Tensor = (dy * r).mul_(2)
        return dx
