"""Which of a task's examples are taken: the options that all tasks share."""

from nanochat.config import Problem, config, option


@config
class SliceConfig:
    """Every so many examples, from one to another."""

    start: int = option(0, minimum=0, maximum=10**12, doc="first example of the slice")
    stop: int | None = option(None, minimum=0, maximum=10**12, doc="end of the slice, exclusive")
    step: int = option(1, minimum=1, maximum=10**12, doc="every how many examples one is taken")

    def problems(self) -> list[Problem]:
        """What does not fit together."""
        if self.stop is not None and self.stop < self.start:
            return [("stop", f"stop ({self.stop}) must not come before start ({self.start})")]
        return []
