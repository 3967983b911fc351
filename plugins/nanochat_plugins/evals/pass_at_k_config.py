"""Configuration of `pass_at_k`."""

from nanochat.config import Component, Problem, component, config, option


@config
class PassAtKConfig:
    """The share of problems that at least one of k sampled answers solves, for k of 1, 2, 4, … Take it in a `reinforce`
    stage, where without a `task` it measures the problems that are held out of the training; or of a task, in an
    `evaluate` stage.
    """

    task: Component | None = component(
        "task", optional=True, doc="whose examples are to be solved; without it, the problems that the stage holds out"
    )
    max_examples: int | None = option(None, minimum=1, maximum=10**12, doc="measure only the first ones")
    samples: int = option(8, minimum=1, maximum=100_000, doc="answers to each problem; the largest k")
    temperature: float = option(1.0, minimum=0.0, maximum=100.0, doc="of the sampling; 0: always the likeliest token")
    top_k: int = option(50, minimum=0, maximum=10_000_000, doc="sample from the k likeliest tokens alone; 0: from all")
    max_tokens: int = option(256, minimum=1, maximum=1_000_000, doc="longest answer, in tokens")
    rows: int = option(128, minimum=1, maximum=1_000_000, execution=True, doc="answers generated at once")

    def problems(self) -> list[Problem]:
        """What does not fit together."""
        if not self.temperature and self.samples > 1:
            return [("temperature samples", "at temperature 0 all answers to a problem are one: set samples to 1")]
        return []
