"""Configuration of `adamw`."""

from nanochat.config import config, option


@config
class AdamWConfig:
    """Adam with decoupled weight decay (arXiv 1711.05101)."""

    lr: float = option(0.001, minimum=0.0)
    beta1: float = option(0.8, minimum=0.0, maximum=1.0)
    beta2: float = option(0.95, minimum=0.0, maximum=1.0)
    eps: float = option(1e-10, minimum=0.0)
    weight_decay: float = option(0.0, minimum=0.0)
