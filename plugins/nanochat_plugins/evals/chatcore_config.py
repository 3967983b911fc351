"""Configuration of `chatcore`."""

from typing import Any

from nanochat.config import components, config, option


@config
class BaselineSlot:
    """[stages.X.evals.NAME.tasks.TASK]."""

    baseline: float | None = option(
        None, minimum=0.0, maximum=0.999, doc="what guessing scores; left out: .25 of letters, 0 of what is written"
    )


@config
class ChatCoreConfig:
    """ChatCORE: the mean over tasks of what a chat model solves, centred so that guessing is 0. Take it to compare
    finetuned models by one number; the usual tasks are arc easy and challenge, mmlu, gsm8k, humaneval and spelling_bee.
    """

    tasks: dict[str, Any] = components("task", slot=BaselineSlot, doc="what is solved, each with `split` test")
    max_examples: int | None = option(None, minimum=1, maximum=10**12, doc="measure only the first ones of each task")
    max_tokens: int = option(512, minimum=1, maximum=1_000_000, doc="longest answer, in tokens")
    rows: int = option(32, minimum=1, maximum=1_000_000, execution=True, doc="answers generated at once")
    workers: int = option(
        8, minimum=1, maximum=1024, execution=True, doc="threads that score answers, where a task runs programs"
    )

    def problems(self) -> list[tuple[str, str]]:
        """A mean of nothing."""
        return [] if self.tasks else [("tasks", "tasks is empty: name one at least, as [….tasks.arc]")]
