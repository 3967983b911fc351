"""What the loop tells of a run beside its loss: a smoothed loss, speed, use of the hardware, memory, time left.

In: each step's loss and tokens, and the pauses between steps. Out: figures for a line of metrics. Not here: where they
are written.
"""

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs

SMOOTHING = 0.9
"""Decay a step of the smoothed loss: about the last ten steps."""


@attrs.define(kw_only=True)
class Meter:
    """Counts from one line of metrics to the next; its smoothed loss goes on through a checkpoint."""

    flops_per_token: int | None = None
    """Of training; None: not known."""
    peak_flops: float | None = None
    """FLOP/s of all ranks together; None: not known."""
    waits_for: str = "data_wait"
    """What the figure is called that says which share of the time went before a step had its batch."""
    processes: int = 0
    """That compute, where it is their CPU time that tells how fast; 0: it is not."""
    mean: float = 0.0
    weight: float = 0.0
    """What the losses behind `mean` weigh together, 0 … 1: `mean` began at 0, which dividing by it takes out."""
    steps: int = 0
    """Since the last line, as the following."""
    tokens: int = 0
    waited: float = 0.0
    """Seconds for data."""
    mfu: float | None = None
    """The last line's share of the peak."""
    wait: float | None = None
    """The last line's share of the time that went before steps had their batches."""
    began: float = attrs.field(factory=lambda: time.monotonic())
    cpu_began: float = attrs.field(factory=lambda: time.process_time())
    rates: list[float] = attrs.field(factory=list)
    """Tokens a second of each line so far."""
    cpu_rates: list[float] = attrs.field(factory=list)
    """Tokens a second of CPU time."""

    @property
    def speed(self) -> dict[str, float]:
        """The medians of all lines so far. Beside other work the clock tells of that too; CPU time nearly does not."""
        found = {"tokens_per_second": self.rates, "tokens_per_cpu_second": self.cpu_rates}
        return {name: statistics.median(rates) for name, rates in found.items() if rates}

    @property
    def smoothed_loss(self) -> float:
        """The mean of the losses so far, each of which weighs SMOOTHING times the one after it."""
        return self.mean / self.weight

    @property
    def shown(self) -> dict[str, float]:
        """What a person who watches is told at every step."""
        return {"loss": self.smoothed_loss, **({} if self.mfu is None else {"mfu": self.mfu})}

    def add(self, loss: float, tokens: int) -> None:
        """A step was made: its mean loss, and the tokens of all ranks."""
        self.mean = SMOOTHING * self.mean + (1 - SMOOTHING) * loss
        self.weight = SMOOTHING * self.weight + (1 - SMOOTHING)
        self.steps += 1
        self.tokens += tokens

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Its time is that of waiting for data."""
        began = time.monotonic()
        yield
        self.waited += time.monotonic() - began

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Its time is not training's: an evaluation, a checkpoint."""
        began, cpu_began = time.monotonic(), time.process_time()
        yield
        self.began += time.monotonic() - began
        self.cpu_began += time.process_time() - cpu_began

    def figures(self, steps_left: int) -> dict[str, float]:
        """What was measured since the last line; the count begins again."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        rate, self.wait = self.tokens / seconds, self.waited / seconds
        self.rates.append(rate)
        if self.processes:
            cpu_seconds = max(time.process_time() - self.cpu_began, 1e-9)
            self.cpu_rates.append(self.tokens / cpu_seconds / self.processes)
        found = {
            "tokens_per_second": rate,
            self.waits_for: self.wait,
            "seconds_left": steps_left * seconds / max(1, self.steps),
        }
        if self.flops_per_token and self.peak_flops:
            found["mfu"] = self.mfu = rate * self.flops_per_token / self.peak_flops
        self.begin()
        return found

    def begin(self) -> None:
        """Count from now on."""
        self.steps, self.tokens, self.waited = 0, 0, 0.0
        self.began, self.cpu_began = time.monotonic(), time.process_time()

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"mean": self.mean, "weight": self.weight}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on with what `state` gave."""
        self.mean, self.weight = state["mean"], state["weight"]
