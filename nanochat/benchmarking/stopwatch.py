"""Where the seconds of a training step go: the loop runs as it is, on parts that tell when they begin and end.

In: the loader, model and optimizers of a TrainingRun. Out: the same, timed, and seconds by part. The loop itself knows
nothing of it: what lies between the end of a forward pass and the next part's beginning is the backward pass, with the
exchange of gradients; what lies between the last optimizer and the next batch is the rest of the loop.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch

from nanochat.data.loader import Batch
from nanochat.training.loop import Loader
from nanochat.training.optimizer import Optimizer

PARTS = ("data", "forward", "backward", "optimizer", "loop")


@attrs.define
class Stopwatch:
    """Seconds by part. On a GPU each lap waits for the device, so parts do not overlap as they do in training."""

    device: torch.device
    clock: Callable[[], float] = time.perf_counter
    seconds: dict[str, float] = attrs.field(factory=lambda: dict.fromkeys(PARTS, 0.0))
    last: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.last = self.clock()

    def lap(self, part: str) -> None:
        """The time since the last lap was spent on `part`."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = self.clock()
        self.seconds[part] += now - self.last
        self.last = now

    def reset(self) -> None:
        """Forget everything so far."""
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.last = self.clock()


@attrs.frozen
class TimedLoader:
    """A loader, its batches timed."""

    inner: Loader
    watch: Stopwatch

    def ready(self, seconds: float) -> bool:
        return self.inner.ready(seconds)

    def next_batch(self) -> Batch:
        self.watch.lap("loop")
        batch = self.inner.next_batch()
        self.watch.lap("data")
        return batch

    def position(self) -> Mapping[str, float]:
        return self.inner.position()


@attrs.frozen(eq=False)
class TimedModel:
    """A module, its forward passes timed."""

    inner: Any
    watch: Stopwatch

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        self.watch.lap("backward")  # of the rows before, if any
        result = self.inner(*arguments, **keywords)
        self.watch.lap("forward")
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@attrs.frozen(eq=False)
class TimedOptimizer:
    """An optimizer, its steps timed."""

    inner: Optimizer
    watch: Stopwatch

    def step(self) -> None:
        self.watch.lap("backward")  # of the last rows; nothing behind another optimizer
        self.inner.step()
        self.watch.lap("optimizer")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)
