"""Configuration of `task`."""

from nanochat.config import Component, component, config, option


@config
class TaskConfig:
    """Any registered task as an evaluation: greedy answers, or the likeliest letter."""

    task: Component = component("task", doc="whose examples are to be solved")
    max_examples: int | None = option(None, minimum=1, doc="measure only the first ones")
    max_tokens: int = option(512, minimum=1, doc="longest answer, in tokens")
    rows: int = option(32, minimum=1, execution=True, doc="answers generated at once")
