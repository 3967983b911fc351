"""What a stage is given, and what it hands back.

A stage plugin's builder is `run(config, context) -> Record`: the config has its artifacts located and its components
resolved; the context builds them, tells where to write, and carries figures and progress to whoever watches.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs

from nanochat.config import Component
from nanochat.registry import Registry
from nanochat.runtime import Runtime


class Reporter(Protocol):
    """Where a stage's figures go: metrics.jsonl, events.jsonl, the trackers and the observers."""

    def metrics(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures of a step, kept for good."""

    def progress(self, done: int, total: int, figures: Mapping[str, float], unit: str = "steps") -> None:
        """How far the stage is, in which unit, and what it shows now: `loss`, `tokens`, … Quick, called every step."""

    def note(self, text: str) -> None:
        """A line for the person who watches."""

    def truncate_metrics(self, step: int) -> None:
        """Forget the figures of later steps: the stage goes on from this one."""


@attrs.frozen(kw_only=True)
class StageContext:
    """A stage's surroundings in one worker process."""

    stage: str
    """The stage's own name in the recipe."""
    folder: Path
    """The stage's folder in the store: everything it makes goes below."""
    key: str = ""
    """The stage's key, which its checkpoints note."""
    runtime: Runtime
    registry: Registry
    reporter: Reporter
    should_stop: Callable[[], bool]
    """True once a person or the scheduler asked to stop: save, then raise `errors.Stopped`. Asks all ranks, which must
    ask equally often."""
    stop_asked: Callable[[], bool] = attrs.field(default=attrs.Factory(lambda self: self.should_stop, takes_self=True))
    """Whether this rank alone was asked, for a loop that exchanges more than that with the others."""
    take_save_request: Callable[[], bool] = lambda: False
    """Whether this rank was asked for a checkpoint since the last call. The stage goes on after it."""

    def build(self, component: Component, *arguments: Any) -> Any:
        """Build a resolved component: its plugin's builder, called with its config and the arguments."""
        return self.registry.builder(component.kind, component.use)(component.config, *arguments)


@attrs.frozen(kw_only=True)
class Figure:
    """A measured value, how many examples stand behind it, and its standard error where there is one.

    What it was measured with is the stage's config, which its folder holds.
    """

    value: float
    n: int = 0
    standard_error: float | None = None
    data: str = ""
    """A digest of what it was measured on, for who compares two."""

    @classmethod
    def of_sums(cls, above: Sequence[float], below: Sequence[float], data: str = "") -> "Figure":
        """Σ above / Σ below over n examples, with a ratio's standard error, √Σ(above − value·below)² / Σ below.

        The linearisation of Cochran, Sampling Techniques (1977), 6.4. ZeroDivisionError where Σ below is 0.
        """
        total = math.fsum(below)
        value = math.fsum(above) / total
        squares = math.fsum((a - value * b) ** 2 for a, b in zip(above, below, strict=True))
        return cls(value=value, n=len(below), standard_error=math.sqrt(squares) / total, data=data)


@attrs.frozen(kw_only=True)
class Record:
    """What a finished stage leaves."""

    artifact: str = "."
    """Path of what others may ask for (the tokenizer, the checkpoint), relative to the stage's folder."""
    figures: Mapping[str, Figure] = attrs.field(factory=dict)
    data: Mapping[str, str] = attrs.field(factory=dict)
    """What was read: "SOURCE.SPLIT" → the sha256 over its shards' digests."""
