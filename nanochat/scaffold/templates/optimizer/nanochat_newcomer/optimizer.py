"""The optimizer `newcomer`: every weight moves against a moving average of its gradient."""

from collections.abc import Mapping
from typing import Any

import torch
from nanochat.runtime import Runtime
from torch import nn

from nanochat_newcomer.config import NewcomerConfig


class Newcomer(torch.optim.Optimizer):
    """Reads lr, momentum and weight_decay from its param groups: the recipe's schedules scale them there."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if weight not in self.state:
                    self.state[weight]["average"] = torch.zeros_like(weight)
                average = self.state[weight]["average"]
                average.lerp_(weight.grad, 1 - group["momentum"])
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(average, alpha=group["lr"])


def build(config: NewcomerConfig, parameters: Mapping[str, nn.Parameter], runtime: Runtime) -> Newcomer:
    """One optimizer over a group's parameters, which come by name."""
    defaults = {"lr": config.lr, "momentum": config.momentum, "weight_decay": config.weight_decay}
    return Newcomer(parameters.values(), defaults)
