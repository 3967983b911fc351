"""AdamW: torch's own kernel, fused on CPU and CUDA, over tensors that are updated together elsewhere.

A gradient in factors is multiplied out a block of rows at a time, so that it never stands whole.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from nanochat.runtime import Runtime
from nanochat.training.factored_gradient import Factors, factors
from nanochat.training.stateful_optimizer import StatefulOptimizer
from nanochat_plugins.optimizers.adamw_config import FACTORED_BLOCK, FACTORED_PARTS, AdamWConfig


class AdamW(StatefulOptimizer):
    """The moments are kept as torch.optim.AdamW keeps them: `step`, `exp_avg`, `exp_avg_sq` of each parameter."""

    takes_factors: ClassVar[bool] = True

    def __init__(self, config: AdamWConfig, parameters: Mapping[str, nn.Parameter], fused: bool) -> None:
        defaults = {"lr": config.lr, "betas": (config.beta1, config.beta2), "eps": config.eps}
        super().__init__([{"params": list(parameters.values())}], {**defaults, "weight_decay": config.weight_decay})
        self._fused = fused

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            self._step_group(group)

    def _step_group(self, group: dict[str, Any]) -> None:
        given = [parameter for parameter in group["params"] if parameter.grad is not None]
        gradients = [parameter.grad for parameter in given if parameter.grad is not None]
        self._update(group, given, gradients, [self._state_of(parameter) for parameter in given])
        for parameter in group["params"]:
            found = factors(parameter)
            if found is not None:
                self._step_factored(group, parameter, found)

    def _step_factored(self, group: dict[str, Any], parameter: nn.Parameter, found: Factors) -> None:
        """As with the dense gradient: each number is updated by its own alone."""
        state = self._state_of(parameter)
        rows = max(1, min(FACTORED_BLOCK // parameter.size(1), parameter.size(0) // FACTORED_PARTS))
        for start in range(0, parameter.size(0), rows):
            block = slice(start, start + rows)
            part = {slot: state[slot][block] for slot in ("exp_avg", "exp_avg_sq")} | {"step": state["step"].clone()}
            self._update(group, [parameter[block]], [found.dense(start, start + rows)], [part])
        state["step"] += 1

    def _update(
        self,
        group: dict[str, Any],
        weights: Sequence[Tensor],
        gradients: Sequence[Tensor],
        states: Sequence[Mapping[str, Tensor]],
    ) -> None:
        beta1, beta2 = group["betas"]
        adamw(
            list(weights),
            list(gradients),
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            foreach=not self._fused,
            fused=self._fused,
            amsgrad=False,
            maximize=False,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            eps=group["eps"],
            weight_decay=group["weight_decay"],
        )

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Any]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return state


def build(config: AdamWConfig, parameters: Mapping[str, nn.Parameter], runtime: Runtime) -> AdamW:
    """One AdamW over a group's parameters."""
    return AdamW(config, parameters, fused=runtime.device.type in ("cpu", "cuda"))
