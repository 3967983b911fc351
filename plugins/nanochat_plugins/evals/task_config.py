"""Configuration of `task`."""

from nanochat.config import Component, component, config, option


@config
class TaskConfig:
    """The share of a task's examples that the model solves, by greedy answers or by the likeliest letter. Take it to
    measure any task of [stages.X.data], with `split = "test"` where the task has one.
    """

    task: Component = component("task", doc="whose examples are to be solved")
    max_examples: int | None = option(None, minimum=1, maximum=10**12, doc="measure only the first ones")
    max_tokens: int = option(512, minimum=1, maximum=1_000_000, doc="longest answer, in tokens")
    rows: int = option(32, minimum=1, maximum=1_000_000, execution=True, doc="answers generated at once")
