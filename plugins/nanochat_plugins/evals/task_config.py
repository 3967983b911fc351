"""Configuration of `task`."""

from collections.abc import Callable, Iterator
from typing import Any

from nanochat.config import Component, Problem, component, config, option
from nanochat.data.task import spoken


@config
class TaskConfig:
    """The share of a task's examples that the model solves, by greedy answers or by the likeliest letter. Take it to
    measure any task of [stages.X.data], with `split = "test"` where the task has one.
    """

    task: Component = component("task", doc="whose examples are to be solved")
    max_examples: int | None = option(None, minimum=1, maximum=10**12, doc="measure only the first ones")
    max_tokens: int = option(512, minimum=1, maximum=1_000_000, doc="longest answer, in tokens")
    samples: int = option(
        1, minimum=1, maximum=10_000, doc="answers to each example of a generative task; more than one give pass@k"
    )
    temperature: float = option(0.0, minimum=0.0, maximum=100.0, doc="of these answers; 0: the likeliest ids")
    top_k: int = option(50, minimum=0, maximum=10**9, doc="only so many likeliest ids, with a temperature; 0: all")
    seed: int = option(1, minimum=0, maximum=2**62, doc="of what is sampled: the same weights always say the same")
    rows: int = option(32, minimum=1, maximum=1_000_000, execution=True, doc="answers generated at once")
    workers: int = option(
        8, minimum=1, maximum=1024, execution=True, doc="threads that score answers, where a task runs programs"
    )

    def problems(self) -> list[Problem]:
        """Several answers that are all the same."""
        if self.samples > 1 and self.temperature == 0:
            return [("samples", f"{self.samples} answers at temperature 0 are {self.samples} times the same one")]
        return []

    def texts(self, build: Callable[[Component], Any]) -> Iterator[tuple[str, list[str]]]:
        """The conversations that are measured, answers included."""
        task = build(self.task)
        count = min(len(task), self.max_examples or len(task))
        yield "", [spoken(task[index]) for index in range(count)]
