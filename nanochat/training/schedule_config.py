"""Configuration of the schedules of learning rate, momentum and weight decay over a run."""

from nanochat.config import config, option


@config
class ScheduleConfig:
    """Trapezoid: linear warmup, flat, linear warmdown. Momentum and decay apply to groups that have them."""

    warmup_steps: int = option(
        40, minimum=0, maximum=1_000_000_000, doc="steps in which the learning rate rises to its peak"
    )
    warmdown_ratio: float = option(0.65, minimum=0.0, maximum=1.0, doc="share of the run that the decline takes")
    final_lr: float = option(0.05, minimum=0.0, maximum=1.0, doc="learning rate at the end, over its peak")
    momentum_start: float = option(0.85, minimum=0.0, maximum=1.0, doc="momentum of the first step")
    momentum_peak: float = option(0.97, minimum=0.0, maximum=1.0, doc="momentum between its rise and the warmdown")
    momentum_end: float = option(0.90, minimum=0.0, maximum=1.0, doc="momentum at the end of the warmdown")
    momentum_warmup_steps: int = option(
        400, minimum=0, maximum=1_000_000_000, doc="steps in which momentum rises to its peak"
    )
    decay: str = option("cosine", choices=("cosine", "constant"), doc="how weight decay goes to 0, or does not")
