"""`torch:NAME`: any optimizer of torch.optim, as it is. Its momentum and weight decay stay what the recipe says."""

import inspect
from collections.abc import Mapping

import attrs
import torch
from torch import nn

from nanochat.runtime import Runtime
from nanochat_plugins.optimizers.torch_config import TorchOptimizer


def build(config: TorchOptimizer, parameters: Mapping[str, nn.Parameter], runtime: Runtime) -> torch.optim.Optimizer:
    """The class of torch.optim that the config is called after, fused where torch has that."""
    cls = getattr(torch.optim, type(config).__name__)
    options = {name: value for name, value in attrs.asdict(config).items() if value is not None}  # type: ignore[arg-type]
    if "fused" in inspect.signature(cls).parameters and runtime.device.type in ("cpu", "cuda"):
        options["fused"] = True
    made: torch.optim.Optimizer = cls(parameters.values(), **options)
    for group in made.param_groups:
        group["constant"] = True
    return made
