"""The transform `fp8`: linear layers multiply in 8 bits while they train, each tensor scaled by its largest value.

In: a model of linear layers. Out: the same model; weights stay as they are, in float32 and under their names, and are
quantised for each product. e4m3 (4 bits of exponent, 3 of mantissa) for what is multiplied forward, e5m2, which reaches
farther, for gradients. In evaluation, and for tokens that are no multiple of 16, a layer computes as without it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nanochat.errors import stage_failure
from nanochat.runtime import Runtime
from nanochat_plugins.transforms.fp8_config import REMEDY, Fp8Config

FORWARD, BACKWARD = torch.float8_e4m3fn, torch.float8_e5m2
TILE = 16
"""Sides of the matrices that the kernels take are multiples of it."""


def build(config: Fp8Config, model: Any, runtime: Runtime) -> Any:
    """The model, its linears changed in place. StageError E115 where the device has no fp8, or no linear is suited."""
    fault = disagreement(runtime.device)
    if fault:
        raise stage_failure("E115", f"fp8 does not work on this {runtime.device.type} device: {fault}", help=REMEDY)
    changed = [module for name, module in model.named_modules() if is_suited(name, module, config.smallest)]
    if not changed:
        raise stage_failure("E115", f"fp8: no linear has both sides of at least {config.smallest}", help=REMEDY)
    for linear in changed:
        linear.forward = partial(forward, linear, linear.forward)
    runtime.note(f"fp8: {len(changed)} linears train in 8 bits")
    return model


def is_suited(name: str, module: nn.Module, smallest: int) -> bool:
    """A linear without bias whose sides are large multiples of 16. The head is computed by the loss, not as a layer."""
    if not isinstance(module, nn.Linear) or module.bias is not None or name == "head":
        return False
    sides = module.weight.shape
    return min(sides) >= smallest and all(side % TILE == 0 for side in sides)


def forward(linear: nn.Linear, plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """x (…, in) → (…, out) in the dtype of x."""
    rows = x.flatten(0, -2)  # (N, in)
    if not linear.training or not torch.is_grad_enabled() or len(rows) % TILE:
        return plain(x)
    y: Tensor = _Product.apply(rows, linear.weight)
    return y.view(*x.shape[:-1], -1)


class _Product(torch.autograd.Function):
    """x (N, in), weight (out, in) → x · weightᵀ (N, out)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        x8, x_scale = quantised(x, FORWARD)
        w8, w_scale = quantised(weight, FORWARD)
        ctx.save_for_backward(x8, x_scale, w8, w_scale)
        ctx.dtypes = x.dtype, weight.dtype
        return _multiplied(x8, w8.t(), x_scale, w_scale, x.dtype, fast=True)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor]:
        x8, x_scale, w8, w_scale = ctx.saved_tensors
        of_x, of_weight = ctx.dtypes
        g8, g_scale = quantised(upstream, BACKWARD)
        # The kernels want the left factor row by row and the right one column by column: two are laid out anew.
        dx = _multiplied(g8, w8.t().contiguous().t(), g_scale, w_scale, of_x)  # (N, out)(out, in)
        dw = _multiplied(g8.t().contiguous(), x8.t().contiguous().t(), g_scale, x_scale, of_x)  # (out, N)(N, in)
        return dx, dw.to(of_weight)


def quantised(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x as 8-bit numbers, and the float32 number by which they are multiplied to be x again: max|x| / the largest."""
    largest = torch.finfo(dtype).max
    scale = x.abs().amax().float().clamp(min=1e-12) / largest
    return (x.float() / scale).clamp(-largest, largest).to(dtype), scale


def _multiplied(
    left: Tensor, right: Tensor, left_scale: Tensor, right_scale: Tensor, dtype: torch.dtype, *, fast: bool = False
) -> Tensor:
    """fast: sums are kept in fewer bits on Hopper, which is good enough for values and not for gradients."""
    y: Tensor = torch._scaled_mm(
        left, right, scale_a=left_scale, scale_b=right_scale, out_dtype=dtype, use_fast_accum=fast
    )
    return y


def disagreement(device: torch.device) -> str:
    """What a small product does other than float64 says, or nothing."""
    left, right = (torch.linspace(-2.0, 3.0, 32 * 64).view(32, 64).roll(shift, 1) for shift in (0, 7))
    try:
        a, a_scale = quantised(left.to(device), FORWARD)
        b, b_scale = quantised(right.to(device), FORWARD)
        y = _multiplied(a, b.t(), a_scale, b_scale, torch.bfloat16, fast=True).cpu().double()
    except Exception as error:  # a kernel may fail in any way: that is what the trial is for
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0]}"
    exact = (a.cpu().double() @ b.cpu().double().T) * a_scale.item() * b_scale.item()
    off = float((y - exact).abs().max() / exact.abs().max())
    return "" if off < 1e-2 else f"a product is off by {off:.1%}"
