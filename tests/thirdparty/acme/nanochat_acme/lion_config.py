"""Configuration of `lion`. In a module of its own: planning a recipe reads it, and imports no torch."""

from nanochat.config import config, option


@config
class LionConfig:
    """The sign of a momentum (arXiv 2302.06675)."""

    lr: float = option(0.0003, minimum=0.0)
    beta1: float = option(0.9, minimum=0.0, maximum=1.0, doc="momentum's share of the step")
    beta2: float = option(0.99, minimum=0.0, maximum=1.0, doc="momentum's share of itself")
    weight_decay: float = option(0.0, minimum=0.0, doc="decoupled, as in AdamW")
