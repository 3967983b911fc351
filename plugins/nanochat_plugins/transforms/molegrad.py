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
from torch import Tensor

from nanochat.errors import stage_failure
from nanochat.model.gpt import MLP, Linear
from nanochat.runtime import Runtime
from nanochat.training.factored_gradient import Tracked, Tracking, orthonormal_or
from nanochat_plugins.transforms.molegrad_config import DENSE, MolegradConfig


def build(config: MolegradConfig, model: Any, runtime: Runtime) -> Any:
    """The model, its targeted layers changed in place. StageError E115 for what cannot be changed."""
    named: dict[str, Any] = dict(model.named_modules(remove_duplicate=False))
    # Those under a second name too, which what two layers share has.
    parameters = {name: its for name, its in model.named_parameters(remove_duplicate=False) if config.targets(name)}
    linears = {name: named[name.removesuffix(".weight")] for name in parameters}
    reason = config.refuses({name: tuple(linear.weight.shape) for name, linear in linears.items()}, ())
    reason = reason or ('molegrad cannot stream what shard = "full" cuts' if _cut(runtime) else "")
    reason = reason or _spread(config, runtime)
    if len(set(map(id, parameters.values()))) < len(parameters):
        reason = reason or "molegrad: two layers of the model share a weight, and it would track them apart"
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


def _spread(config: MolegradConfig, runtime: Runtime) -> str:
    """Why a step's power iterations cannot be made; of the passes within a step `_passes` asks."""
    alone = config.power_iters == 1 or runtime.world_size == 1
    return "" if alone else f"power_iters = {config.power_iters} needs all rows of a step in one process"


def _fault(name: str, linear: Any) -> str:
    """Why a layer's gradient cannot be kept in factors, or nothing."""
    if not linear.weight.is_floating_point():
        return f"molegrad: `{name}` is of {linear.weight.dtype}: quantised layers are not for it"
    if type(linear) is not Linear:
        return f"molegrad: `{name}` is a {type(linear).__name__}, and it knows how a plain linear computes alone"
    if "forward" in vars(linear):
        return f"molegrad: another transform computes `{name}` otherwise, as fp8 does: leave one of them out"
    return ""


def _streamed(
    mlp: MLP, up: Tracked, down: Tracked, config: MolegradConfig, plain: Callable[[Tensor], Tensor], x: Tensor
) -> Tensor:
    """x (B, T, C) → (B, T, C)."""
    if not mlp.training or not torch.is_grad_enabled():
        return plain(x)
    passes = _passes(up, config.power_iters)
    weights = mlp.up.weight, mlp.down.weight, up.carrier, down.carrier
    bases = up.basis, up.probe, down.basis, down.probe
    y: Tensor = _StreamedMLP.apply(x.flatten(0, -2), *weights, *bases, config.chunk, passes)
    return y.view_as(x)


class _StreamedMLP(torch.autograd.Function):
    """x (N, C), up (H, C), down (C, H) → (N, C); the carriers (rows + columns, k) get GV above GᵀQ.

    passes: power iterations, what spans (GᵀG)^(passes − 1)·GᵀQ in place of GᵀQ; 0: none is wanted.
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
        compute = _opaque_mlp if torch.compiler.is_compiling() else _mlp_by_chunks
        y: Tensor = compute(x, up, down, chunk)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        compute = _opaque_gradients if torch.compiler.is_compiling() else _gradients_by_chunks
        x, up, down, v_up, q_up, v_down, q_down = ctx.saved_tensors
        dx, of_up, of_down = compute(g, x, up, down, v_up, q_up, v_down, q_down, ctx.chunk, ctx.passes)
        return dx, None, None, of_up, of_down, None, None, None, None, None, None


def _mlp_by_chunks(x: Tensor, up: Tensor, down: Tensor, chunk: int) -> Tensor:
    """x (N, C) → (N, C)."""
    up, down = up.to(x.dtype), down.to(x.dtype)
    y = torch.empty_like(x)
    for at in range(0, len(x), chunk):
        r = F.linear(x[at : at + chunk], up).relu_()  # (chunk, H)
        y[at : at + chunk] = F.linear(r.mul_(r), down)
        del r  # or it would stand beside the next chunk's
    return y


def _gradients_by_chunks(
    g: Tensor,
    x: Tensor,
    up: Tensor,
    down: Tensor,
    v_up: Tensor,
    q_up: Tensor,
    v_down: Tensor,
    q_down: Tensor,
    chunk: int,
    passes: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """dx (N, C), and of both weights GV above GᵀQ, after `passes` − 1 further iterations of the subspace of that."""
    kept = up.dtype
    up, down, v_up, q_up, v_down, q_down = (t.to(x.dtype) for t in (up, down, v_up, q_up, v_down, q_down))
    of_up, of_down = (w.new_zeros(sum(w.shape), v_up.size(1), dtype=kept) for w in (up, down))
    (left_up, right_up), (left_down, right_down) = of_up.split(list(up.shape)), of_down.split(list(down.shape))
    dx = torch.empty_like(x)
    for at, x_c, g_c, a, dh in _chunks(x, g, up, down, chunk):
        dx[at : at + chunk] = dh @ up
        left_up += dh.T @ (x_c @ v_up)
        left_down += g_c.T @ (a @ v_down)
        if passes:
            right_up += x_c.T @ (dh @ q_up)
            right_down += a.T @ (g_c @ q_down)
        del a, dh  # or they would stand beside the next chunk's
    for _turn in range(passes - 1):
        v_up, v_down = (orthonormal_or(right, right).to(x.dtype) for right in (right_up, right_down))
        y_up, y_down = torch.zeros_like(left_up), torch.zeros_like(left_down)
        for _at, x_c, g_c, a, dh in _chunks(x, g, up, down, chunk):
            y_up += dh.T @ (x_c @ v_up)
            y_down += g_c.T @ (a @ v_down)
            del a, dh
        q_up, q_down = (orthonormal_or(y, y).to(x.dtype) for y in (y_up, y_down))
        right_up.zero_()
        right_down.zero_()
        for _at, x_c, g_c, a, dh in _chunks(x, g, up, down, chunk):
            right_up += x_c.T @ (dh @ q_up)
            right_down += a.T @ (g_c @ q_down)
            del a, dh
    return dx, of_up, of_down


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


# As operators of their own a compiler does not look into them: it would see up(x) computed twice, and keep it instead.
_opaque_mlp = torch.library.custom_op("nanochat::mlp_by_chunks", _mlp_by_chunks, mutates_args=())
_opaque_gradients = torch.library.custom_op("nanochat::gradients_by_chunks", _gradients_by_chunks, mutates_args=())


@_opaque_mlp.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


@_opaque_gradients.register_fake
def _(_: Tensor, x: Tensor, up: Tensor, down: Tensor, basis: Tensor, *__: Any) -> tuple[Tensor, Tensor, Tensor]:
    of_up, of_down = (w.new_empty(sum(w.shape), basis.size(1)) for w in (up, down))
    return torch.empty_like(x), of_up, of_down


def _passes(its: Tracked, power_iters: int) -> int:
    """Iterations in this pass. StageError E115 where it is not the first one of the step, and each would go its own
    way: Σ (GᵢᵀGᵢ)ᵖ⁻¹GᵢᵀQ is no power of ΣGᵢ.
    """
    if power_iters > 1 and its.carrier.grad is not None:
        raise stage_failure(
            "E115",
            f"power_iters = {power_iters} needs all rows of a step in one pass, and this is its second",
            help="leave power_iters at 1, or let total_batch_size be what one pass holds (device_batch_size)",
        )
    return power_iters if its.refines else 0


def _projected(linear: Linear, its: Tracked, power_iters: int, plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """x (…, in) → (…, out)."""
    if not linear.training or not torch.is_grad_enabled():
        return plain(x)
    passes = _passes(its, power_iters)
    y: Tensor = _ProjectedLinear.apply(x.flatten(0, -2), linear.weight, its.carrier, its.basis, passes)
    return y.view(*x.shape[:-1], -1)


class _ProjectedLinear(torch.autograd.Function):
    """x (N, in), weight (out, in) → (N, out); the carrier (out + in, k) gets gᵀ(xV) above (xᵀx)^passes·V."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, carrier: Tensor, basis: Tensor, passes: int) -> Tensor:  # noqa: ARG004
        v = basis.to(x.dtype)
        refined = torch.zeros_like(basis)
        for turn in range(passes):
            turned = orthonormal_or(refined, basis).to(x.dtype) if turn else v
            refined = (x.T @ (x @ turned)).to(basis.dtype)
        ctx.save_for_backward(weight, x @ v, refined)
        return F.linear(x, weight.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        weight, projected, refined = ctx.saved_tensors
        sums = torch.cat(((g.T @ projected).to(refined.dtype), refined))
        return g @ weight.to(g.dtype), None, sums, None, None
