"""The optimizer `lion`: every weight moves by the learning rate, in the direction of its momentum's sign."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from nanochat.runtime import Runtime
from nanochat_acme.lion_config import LionConfig


class Lion(torch.optim.Optimizer):
    """Update rule of arXiv 2302.06675, algorithm 2."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            beta1, beta2 = group["beta1"], group["beta2"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if weight not in self.state:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
                momentum = self.state[weight]["momentum"]
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(group["lr"] * momentum.lerp(weight.grad, 1 - beta1).sign())
                momentum.lerp_(weight.grad, 1 - beta2)


def build(config: LionConfig, parameters: Mapping[str, nn.Parameter], runtime: Runtime) -> Lion:
    """One Lion over a group's parameters."""
    defaults = {
        "lr": config.lr,
        "beta1": config.beta1,
        "beta2": config.beta2,
        "weight_decay": config.weight_decay,
    }
    return Lion(parameters.values(), defaults)
