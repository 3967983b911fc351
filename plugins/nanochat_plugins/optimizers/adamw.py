"""AdamW: torch's own, in its fused form, which runs on CPU and on every GPU alike."""

from collections.abc import Mapping

import torch
from torch import nn

from nanochat.runtime import Runtime
from nanochat_plugins.optimizers.adamw_config import AdamWConfig


def build(config: AdamWConfig, parameters: Mapping[str, nn.Parameter], runtime: Runtime) -> torch.optim.AdamW:
    """One AdamW over a group's parameters."""
    return torch.optim.AdamW(
        parameters.values(),
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=runtime.device.type in ("cpu", "cuda"),
    )
