"""Configuration of the evaluation `newcomer`. Planning a recipe reads it, so it imports no torch."""

from typing import ClassVar

from nanochat.config import config, option


@config
class NewcomerConfig:
    """How often the likeliest next token is the right one."""

    needs_sources: ClassVar[bool] = True

    tokens: int = option(100_000, minimum=1, doc="how many to measure on")
    rows: int = option(32, minimum=1, execution=True, doc="rows computed at once")
