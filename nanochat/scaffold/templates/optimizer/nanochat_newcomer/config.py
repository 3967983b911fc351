"""Configuration of the optimizer `newcomer`. Planning a recipe reads it, so it imports no torch."""

from nanochat.config import config, option


@config
class NewcomerConfig:
    """Stochastic gradient descent with momentum."""

    lr: float = option(0.01, minimum=0.0)
    momentum: float = option(0.9, minimum=0.0, maximum=1.0, doc="where no schedule sets it")
    weight_decay: float = option(0.0, minimum=0.0, doc="decoupled, as in AdamW")
