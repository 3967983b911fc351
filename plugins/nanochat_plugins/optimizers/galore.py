"""GaLore: AdamW in a low-rank space of each matrix's gradient (arXiv 2403.03507, algorithm 2).

In: matrices (m, n) with dense gradients G. Every `update_gap` steps the basis P of the shorter side becomes G's first
`rank` singular vectors. AdamW's moments are those of R = GP (m ≥ n) or PᵀG, and its update of R is projected back:
W ← W − lr · scale · AdamW(R)Pᵀ, or P · AdamW(R). The moments stay as they are when P changes, as in the paper.
Not here: the paper's update of each weight in the backward pass, which spares the gradients too.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from nanochat.errors import wrong_input
from nanochat.runtime import Runtime
from nanochat.training.stateful_optimizer import StatefulOptimizer
from nanochat_plugins.optimizers.galore_config import GaLoreConfig


class GaLore(StatefulOptimizer):
    """Keeps of each matrix `step`, `basis`, and `exp_avg` and `exp_avg_sq` of the projected gradient."""

    def __init__(self, config: GaLoreConfig, parameters: Mapping[str, nn.Parameter], fused: bool) -> None:
        reason = config.refuses({name: tuple(parameter.shape) for name, parameter in parameters.items()})
        if reason:
            raise wrong_input("E115", reason)
        super().__init__(
            [{"params": list(parameters.values())}], {"lr": config.lr, "weight_decay": config.weight_decay}
        )
        self.config, self._fused = config, fused

    @torch.no_grad()
    def step(self) -> None:
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            given = [parameter for parameter in group["params"] if self._is_given(parameter)]
            if given:
                self._step_group(group, given)

    def _is_given(self, parameter: nn.Parameter) -> bool:
        """Whether there is a gradient; the first must be one that has directions, which one of zeros has not: a fresh
        model's output layers are zeros, and so are then the first gradients of what is before them."""
        if parameter.grad is None:
            return False
        return bool(self.state[parameter]) or bool(parameter.grad.any())

    def _step_group(self, group: dict[str, Any], given: list[nn.Parameter]) -> None:
        projected = [self._projected(parameter) for parameter in given]
        states = [self.state[parameter] for parameter in given]
        updates = [torch.zeros_like(gradient) for gradient in projected]  # AdamW moves them off 0 by what it would add
        adamw(
            updates,
            projected,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [torch.full((), float(s["step"]), device=u.device) for s, u in zip(states, updates, strict=True)],
            foreach=not self._fused,
            fused=self._fused,
            amsgrad=False,
            maximize=False,
            lr=group["lr"],
            beta1=self.config.beta1,
            beta2=self.config.beta2,
            eps=self.config.eps,
            weight_decay=0.0,
        )
        for weight, state, update in zip(given, states, updates, strict=True):
            state["step"] += 1
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            factors = (update, state["basis"].T) if _is_tall(weight) else (state["basis"], update)
            weight.addmm_(*factors, alpha=self.config.scale)

    def _projected(self, parameter: nn.Parameter) -> Tensor:
        """The gradient in the basis, (m, rank) or (rank, n); the basis is found anew where it is time for it."""
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        tall, step = _is_tall(parameter), state.get("step", 0)
        if step % self.config.update_gap == 0 and (step == 0 or bool(gradient.any())):
            left, _, right = torch.linalg.svd(gradient, full_matrices=False)
            vectors = right.T if tall else left
            state["basis"] = vectors[:, : self.config.rank].contiguous()
        found: Tensor = gradient @ state["basis"] if tall else state["basis"].T @ gradient
        if "step" not in state:
            state |= {"step": 0, "exp_avg": torch.zeros_like(found), "exp_avg_sq": torch.zeros_like(found)}
        return found


def _is_tall(matrix: Tensor) -> bool:
    return matrix.size(0) >= matrix.size(1)


def build(config: GaLoreConfig, parameters: Mapping[str, nn.Parameter], runtime: Runtime) -> GaLore:
    """One GaLore over a group of matrices. InputError E115 for what it refuses."""
    return GaLore(config, parameters, fused=runtime.device.type in ("cpu", "cuda"))
