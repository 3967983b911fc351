"""Configuration of `adamw`."""

from nanochat.config import config, option


@config
class AdamWConfig:
    """Adam with decoupled weight decay (arXiv 1711.05101)."""

    lr: float = option(0.001, minimum=0.0, doc="learning rate at its peak, before lr_factor")
    beta1: float = option(0.8, minimum=0.0, maximum=1.0, doc="decay a step of the mean gradient")
    beta2: float = option(0.95, minimum=0.0, maximum=1.0, doc="decay a step of the mean squared gradient")
    eps: float = option(1e-10, minimum=0.0, doc="added to the root of the mean squared gradient")
    weight_decay: float = option(0.0, minimum=0.0, doc="share of a weight that a step takes off, over lr")
