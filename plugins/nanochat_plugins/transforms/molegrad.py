"""The transform `molegrad`: weight gradients through a tracked basis, hidden activations computed again by chunks.

In: a `gpt`. Out: the same model, parameters and names as they were; while it trains, the gradient G = gᵀx of a targeted
layer y = xWᵀ is kept as GV (nanochat/training/factored_gradient.py), and dL/dx is exact.

An MLP, down(relu²(up(x))), is one unit that keeps x alone, (N, C). Less is not to be had: relu² needs the values of
up(x), and these need x. On a CPU, and wherever the norm before it keeps its output, that is no more than is kept
already. The backward pass goes over the tokens `chunk` at a time.

A lone linear keeps xV (N, k) in place of x. Without x there is no GᵀQ in the backward pass, so its basis follows the
top right singular space of x itself, by power iteration on xᵀx in the forward pass: the best of rank k for x, so that
‖G − GVVᵀ‖ ≤ ‖g‖₂·‖x − xVVᵀ‖, but not the best for G, which weighs tokens by g. Related: GaLore (arXiv 2403.03507),
VeLoRA (2405.17991), CompAct (2410.15352).

Of what is computed again, nothing is in evaluation. Not here: what an optimizer does with the factors.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanochat.errors import stage_failure
from nanochat.model.gpt import MLP, Linear
from nanochat.runtime import Runtime
from nanochat.training.factored_gradient import Tracked, Tracking
from nanochat_plugins.transforms.molegrad_config import DENSE, MolegradConfig


def build(config: MolegradConfig, model: Any, runtime: Runtime) -> Any:
    """The model, its targeted layers changed in place. StageError E115 for what cannot be changed."""
    named = dict(model.named_modules())
    linears = {
        name: named[name.removesuffix(".weight")] for name, _ in model.named_parameters() if config.targets(name)
    }
    reason = config.refuses({name: tuple(linear.weight.shape) for name, linear in linears.items()}, ())
    reason = reason or ('molegrad cannot stream what shard = "full" cuts' if _cut(runtime) else "")
    reason = reason or next((fault for name, linear in linears.items() if (fault := _fault(name, linear))), "")
    if reason:
        raise stage_failure("E115", reason, help=DENSE)
    generator = torch.Generator().manual_seed(runtime.seed)
    bases = {}
    for name, linear in linears.items():
        in_mlp = ".mlp." in name
        tracking = Tracking(
            rank=config.rank_k, refresh=config.refresh, warm_start=config.warm_start, of_input=not in_mlp
        )
        bases[name] = its = Tracked(linear.weight, tracking, generator)
        if not in_mlp:
            linear.forward = partial(_projected, linear, its, config.power_iters, linear.forward)
    for name, module in named.items():
        if f"{name}.up.weight" in bases:
            if type(module) is not MLP:
                raise stage_failure("E115", f"molegrad: `{name}` is no MLP of relu² that it knows", help=DENSE)
            up, down = bases[f"{name}.up.weight"], bases[f"{name}.down.weight"]
            streamed: Any = module
            streamed.forward = partial(_streamed, module, up, down, config, module.forward)
    runtime.note(f"molegrad: the gradients of {len(bases)} layers are kept in {config.rank_k} columns")
    return model


def _cut(runtime: Runtime) -> bool:
    return runtime.shard == "full" and runtime.world_size > 1


def _fault(name: str, linear: nn.Module) -> str:
    """Why a layer's gradient cannot be kept in factors, or nothing."""
    if type(linear) is not Linear or not linear.weight.is_floating_point():
        found = f"a {type(linear).__name__} of {linear.weight.dtype}"
        return f"molegrad: `{name}` is {found}, no plain linear: quantised layers are not for it"
    if "forward" in vars(linear):
        return f"molegrad: another transform computes `{name}` otherwise, as fp8 does: leave one of them out"
    return ""


def _streamed(
    mlp: MLP, up: Tracked, down: Tracked, config: MolegradConfig, plain: Callable[[Tensor], Tensor], x: Tensor
) -> Tensor:
    """x (B, T, C) → (B, T, C)."""
    if not mlp.training or not torch.is_grad_enabled():
        return plain(x)
    passes = config.power_iters if up.refines else 0
    weights = mlp.up.weight, mlp.down.weight, up.carrier, down.carrier
    bases = up.basis, up.probe, down.basis, down.probe
    y: Tensor = _StreamedMLP.apply(x.flatten(0, -2), *weights, *bases, config.chunk, passes)
    return y.view_as(x)


class _StreamedMLP(torch.autograd.Function):
    """x (N, C), up (H, C), down (C, H) → (N, C); the carriers (rows + columns, k) get GV above GᵀQ.

    passes: power iterations, (GᵀG)^(passes − 1)·GᵀQ in place of GᵀQ, whose scale is of no account; 0: none is wanted.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        up: Tensor,
        down: Tensor,
        up_carrier: Tensor,  # noqa: ARG004 (what is for their gradients)
        down_carrier: Tensor,  # noqa: ARG004
        up_basis: Tensor,
        up_probe: Tensor,
        down_basis: Tensor,
        down_probe: Tensor,
        chunk: int,
        passes: int,
    ) -> Tensor:
        ctx.save_for_backward(x, up, down, up_basis, up_probe, down_basis, down_probe)
        ctx.chunk, ctx.passes = chunk, passes
        w_up, w_down = up.to(x.dtype), down.to(x.dtype)
        y = torch.empty_like(x)
        for at in range(0, len(x), chunk):
            r = F.linear(x[at : at + chunk], w_up).relu_()  # (chunk, H)
            y[at : at + chunk] = F.linear(r.mul_(r), w_down)
            del r  # or it would stand beside the next chunk's
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, up, down, *bases = ctx.saved_tensors
        kept, (v_up, q_up, v_down, q_down) = up.dtype, (basis.to(x.dtype) for basis in bases)
        up, down = up.to(x.dtype), down.to(x.dtype)
        rank = v_up.size(1)
        of_up, of_down = (w.new_zeros(sum(w.shape), rank, dtype=kept) for w in (up, down))
        (left_up, right_up), (left_down, right_down) = of_up.split(list(up.shape)), of_down.split(list(down.shape))
        dx = torch.empty_like(x)
        for at, x_c, g_c, a, dh in _chunks(x, g, up, down, ctx.chunk):
            dx[at : at + ctx.chunk] = dh @ up
            left_up += dh.T @ (x_c @ v_up)
            left_down += g_c.T @ (a @ v_down)
            if ctx.passes:
                right_up += x_c.T @ (dh @ q_up)
                right_down += a.T @ (g_c @ q_down)
            del a, dh  # or they would stand beside the next chunk's
        for _ in range(ctx.passes - 1):
            v_up, v_down = (_scaled(right).to(x.dtype) for right in (right_up, right_down))
            y_up, y_down = torch.zeros_like(left_up), torch.zeros_like(left_down)
            for _at, x_c, g_c, a, dh in _chunks(x, g, up, down, ctx.chunk):
                y_up += dh.T @ (x_c @ v_up)
                y_down += g_c.T @ (a @ v_down)
                del a, dh
            q_up, q_down = (_scaled(y).to(x.dtype) for y in (y_up, y_down))
            right_up.zero_()
            right_down.zero_()
            for _at, x_c, g_c, a, dh in _chunks(x, g, up, down, ctx.chunk):
                right_up += x_c.T @ (dh @ q_up)
                right_down += a.T @ (g_c @ q_down)
                del a, dh
        return dx, None, None, of_up, of_down, None, None, None, None, None, None


def _chunks(
    x: Tensor, g: Tensor, up: Tensor, down: Tensor, chunk: int
) -> Iterator[tuple[int, Tensor, Tensor, Tensor, Tensor]]:
    """Of `chunk` tokens each: where they begin, x and g (chunk, C), a = relu²(up(x)) and dL/dup(x), both (chunk, H)."""
    for at in range(0, len(x), chunk):
        x_c, g_c = x[at : at + chunk], g[at : at + chunk]
        r = F.linear(x_c, up).relu_()
        dh = (g_c @ down).mul_(r).mul_(2)
        yield at, x_c, g_c, r.mul_(r), dh
        del r, dh


def _scaled(x: Tensor) -> Tensor:
    """x of norm 1, so that powers of a small gradient do not vanish; nothing stays nothing."""
    scaled: Tensor = x / torch.linalg.vector_norm(x).clamp_min(torch.finfo(x.dtype).tiny)
    return scaled


def _projected(linear: Linear, its: Tracked, power_iters: int, plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """x (…, in) → (…, out)."""
    if not linear.training or not torch.is_grad_enabled():
        return plain(x)
    passes = power_iters if its.refines else 0
    y: Tensor = _ProjectedLinear.apply(x.flatten(0, -2), linear.weight, its.carrier, its.basis, passes)
    return y.view(*x.shape[:-1], -1)


class _ProjectedLinear(torch.autograd.Function):
    """x (N, in), weight (out, in) → (N, out); the carrier (out + in, k) gets gᵀ(xV) above (xᵀx)^passes·V."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, carrier: Tensor, basis: Tensor, passes: int) -> Tensor:  # noqa: ARG004
        v = basis.to(x.dtype)
        refined = torch.zeros_like(basis)
        for turn in range(passes):
            refined = (x.T @ (x @ (_scaled(refined).to(x.dtype) if turn else v))).to(basis.dtype)
        ctx.save_for_backward(weight, x @ v, refined)
        return F.linear(x, weight.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        weight, projected, refined = ctx.saved_tensors
        sums = torch.cat(((g.T @ projected).to(refined.dtype), refined))
        return g @ weight.to(g.dtype), None, sums, None, None
