"""Muon: momentum whose matrices are orthogonalised before they are applied.

In: a group's parameters, all of them matrices. Out: an optimizer that stacks matrices of one shape and updates each
stack at once: Nesterov momentum → row equilibration → orthogonalisation → renormalisation → variance reduction →
cautious decay. Not for embeddings, heads and vectors.

A gradient in factors A·Vᵀ is added to the momentum as it is, and the sum orthogonalised in float32: in bfloat16 the
iteration would raise what is rounding, in directions where there is no gradient, to the size of the others. With
`factored_momentum` the momentum itself is kept as M·Vᵀ, and M (out, k) is orthogonalised in place of (out, in), its
Gram matrix k by k. Every step of the iteration is an odd polynomial, and p(M·Vᵀ) = p(M)·Vᵀ where VᵀV = 1, so that this
is what the dense momentum would give, to rounding, as long as V stays. When V becomes W, M becomes M·VᵀW: what former
gradients had outside of the new basis is forgotten, which the dense momentum keeps.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nanochat.errors import wrong_input
from nanochat.runtime import Runtime
from nanochat.training.factored_gradient import add_gradient_, factors
from nanochat.training.stateful_optimizer import StatefulOptimizer
from nanochat_plugins.optimizers.muon_config import MuonConfig

POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
"""(a, b, c) of X ← aX + (bA + cA²)X, A = XXᵀ, for five steps (arXiv 2505.16932, safety 2e-2, cushion 2)."""

NEWTON_SCHULZ = ((3.4445, -4.7750, 2.0315),) * 5


class Muon(StatefulOptimizer):
    """One param group a shape. A parameter's state is its part of what is kept for the stack, so that a checkpoint can
    be shared out anew, whatever was stacked with what.
    """

    takes_factors: ClassVar[bool] = True

    def __init__(self, parameters: Mapping[str, nn.Parameter], config: MuonConfig, dtype: torch.dtype) -> None:
        stacks: dict[torch.Size, list[nn.Parameter]] = {}
        reason = config.refuses({name: tuple(parameter.shape) for name, parameter in parameters.items()})
        if reason:
            raise wrong_input("E115", reason)
        for parameter in parameters.values():
            stacks.setdefault(parameter.shape, []).append(parameter)
        self.config, self.dtype = config, dtype
        self._kept: dict[torch.Size, dict[str, Tensor]] = {}
        groups = [{"params": stack} for stack in stacks.values()]
        super().__init__(groups, {"lr": config.lr, "momentum": config.momentum, "weight_decay": config.weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        """Update every stack. A parameter without a gradient counts as one of zeros."""
        for group in self.param_groups:
            self._step_stack(group)

    def _step_stack(self, group: dict[str, Any]) -> None:
        parameters: list[nn.Parameter] = group["params"]
        config = self.config
        weights = torch.stack([p.data for p in parameters])
        rows, columns = weights.shape[-2:]
        state = self._state_of(parameters)
        update = self._direction(parameters, state, group["momentum"])
        if config.variance_reduction:
            update = reduce_variance(update, state["second_moment"], config.beta2)
        lr = group["lr"] * max(1.0, rows / columns) ** 0.5
        decayed = weights * (update * weights >= 0) if config.cautious else weights
        weights.sub_(update + group["weight_decay"] * decayed, alpha=lr)
        torch._foreach_copy_([p.data for p in parameters], list(weights.unbind(0)))

    def _direction(self, parameters: list[nn.Parameter], state: dict[str, Tensor], momentum: float) -> Tensor:
        """Take up the gradients into the momentum; what is made orthogonal of both, (N, m, n)."""
        kept, nesterov, shape = state["momentum"], self.config.nesterov, parameters[0].shape
        if "basis" in state:
            return self._factored_direction(parameters, state, momentum)
        dtype = self.dtype
        if any(factors(p) for p in parameters):
            dtype = torch.float32
            kept.mul_(momentum)
            self._add_gradients(kept, parameters, 1 - momentum)
            update = kept * momentum if nesterov else kept.clone()
            if nesterov:
                self._add_gradients(update, parameters, 1 - momentum)
        else:
            gradients = torch.stack([torch.zeros_like(p) if p.grad is None else p.grad for p in parameters])
            kept.lerp_(gradients, 1 - momentum)
            update = gradients.lerp_(kept, momentum) if nesterov else kept.clone()
        return self._orthogonal(update, shape, dtype)

    @staticmethod
    def _add_gradients(stack: Tensor, parameters: list[nn.Parameter], scale: float) -> None:
        for slot, parameter in zip(stack, parameters, strict=True):
            add_gradient_(slot, parameter, scale)

    def _factored_direction(self, parameters: list[nn.Parameter], state: dict[str, Tensor], momentum: float) -> Tensor:
        """The same from left factors, (N, m, k), in the bases of this step's gradients."""
        kept, bases = state["momentum"], state["basis"]
        found = [factors(p) for p in parameters]
        assert all(found), "factored_momentum is for gradients that all come in factors"
        right = torch.stack([its.right for its in found if its])  # (N, n, k)
        left = torch.stack([its.left for its in found if its])  # (N, m, k)
        kept.copy_(kept @ (bases.mT @ right)).lerp_(left, 1 - momentum)
        bases.copy_(right)
        update = left.lerp_(kept, momentum) if self.config.nesterov else kept.clone()
        return self._orthogonal(update, parameters[0].shape, torch.float32) @ right.mT

    def _state_of(self, parameters: list[nn.Parameter]) -> dict[str, Tensor]:
        """What is kept for a stack, made in its first step; from its parameters' own parts where these were loaded."""
        shape = parameters[0].shape
        if shape not in self._kept:
            m, n = shape
            sizes = {"momentum": (m, n)}
            found = [factors(p) for p in parameters]
            if self.config.factored_momentum and found[0] is not None and all(found):
                k = found[0].right.size(1)
                sizes = {"momentum": (m, k), "basis": (n, k)}
            if self.config.variance_reduction:
                sizes["second_moment"] = (m, 1) if m >= n else (1, n)
            empty = {name: parameters[0].new_zeros(size) for name, size in sizes.items()}
            parts = [{**empty, **self.state[parameter]} for parameter in parameters]
            self._kept[shape] = {name: torch.stack([part[name] for part in parts]) for name in sizes}
            for index, parameter in enumerate(parameters):
                self.state[parameter] = {name: kept[index] for name, kept in self._kept[shape].items()}
        return self._kept[shape]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; the next step stacks it."""
        super().load_state_dict(state_dict)
        self._kept.clear()

    def _orthogonal(self, update: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """update (N, m, n), or its left factors (N, m, k), of matrices of a shape (m, n)."""
        config = self.config
        if config.row_equilibration:
            update = equilibrate_rows(update)
        coefficients = POLAR_EXPRESS if config.orthogonalization == "polar_express" else NEWTON_SCHULZ
        safety, floor = (1.01, 1e-6) if config.orthogonalization == "polar_express" else (1.0, 1e-7)
        norm = update.norm(dim=(-2, -1), keepdim=True)
        update = orthogonalize((update / (norm * safety + floor)).to(dtype), coefficients[: config.iterations])
        update = update.float()
        if config.renormalization:
            target = min(shape) ** 0.5
            update = update * (target / update.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-6))
        return update


def equilibrate_rows(x: Tensor) -> Tensor:
    """Rescale every row of x (N, m, n) to the root mean square of its matrix's row norms (arXiv 2603.28254)."""
    norms = x.norm(dim=-1, keepdim=True)  # (N, m, 1)
    target = norms.square().mean(dim=-2, keepdim=True).sqrt()  # (N, 1, 1)
    scale: Tensor = target / norms.clamp_min(1e-6)
    return x * scale


def orthogonalize(x: Tensor, coefficients: tuple[tuple[float, float, float], ...]) -> Tensor:
    """The iteration X ← aX + (bA + cA²)X on x (N, m, n), of spectral norm at most 1; A on the shorter side."""
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    for a, b, c in coefficients:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    orthogonal: Tensor = x.mT if tall else x
    return orthogonal


def reduce_variance(x: Tensor, second_moment: Tensor, beta2: float) -> Tensor:
    """Divide rows (columns if wide) by the root of their mean square's moving average; the matrix keeps its norm."""
    across = -1 if x.size(-2) >= x.size(-1) else -2
    mean_square = x.square().mean(dim=across, keepdim=True)
    second_moment.lerp_(mean_square, 1 - beta2)
    scaled = x * second_moment.clamp_min(1e-10).rsqrt()
    before, after = (y.norm(dim=(-2, -1), keepdim=True) for y in (x, scaled))
    reduced: Tensor = scaled * (before / after.clamp_min(1e-10))
    return reduced


def build(config: MuonConfig, parameters: Mapping[str, nn.Parameter], runtime: Runtime) -> Muon:
    """Muon over a group of matrices; orthogonalised in bfloat16 where the run computes in it and gradients are dense,
    else in float32.
    """
    return Muon(parameters, config, torch.bfloat16 if runtime.dtype == torch.bfloat16 else torch.float32)
