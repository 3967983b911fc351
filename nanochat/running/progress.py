"""What a person sees while stages run: a bar on a terminal, a plain line every ten seconds in a log.

In: the progress that a worker reports. Out: text on one stream. Nothing here decides anything.
"""

import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from nanochat.quantity import duration

_WINDOW_SECONDS = 15.0
_LINE_SECONDS = 10.0


class Display(Protocol):
    """Where a run is shown."""

    def say(self, text: str) -> None:
        """A line that stays."""

    def begin(self, stage: str) -> None:
        """A stage starts."""

    def update(self, progress: Mapping[str, Any]) -> None:
        """How far it is: `time`, `done`, `total`, `unit`, `figures`."""

    def end(self) -> None:
        """The stage has ended."""


class Pace:
    """How fast a stage goes, from its reports of the last seconds: a pause (an evaluation) is forgotten soon."""

    def __init__(self) -> None:
        self._reports: deque[tuple[float, float, float]] = deque()
        self._unit = ""

    def add(self, progress: Mapping[str, Any]) -> None:
        """Take a report in."""
        report = (progress["time"], progress["done"], progress["figures"].get("tokens", 0.0))
        if self._reports and (progress["unit"] != self._unit or report[1] < self._reports[-1][1]):
            self._reports.clear()  # another count began
        self._unit = progress["unit"]
        if self._reports and report[0] == self._reports[-1][0]:
            return
        self._reports.append(report)
        while report[0] - self._reports[0][0] > _WINDOW_SECONDS:
            self._reports.popleft()

    @property
    def tokens_per_second(self) -> float:
        """0 where the stage reports no tokens, or it is too early to say."""
        return self._rate(2)

    def seconds_left(self, progress: Mapping[str, Any]) -> float | None:
        """None where it is too early to say."""
        rate = self._rate(1)
        return (progress["total"] - progress["done"]) / rate if rate > 0 else None

    def _rate(self, column: int) -> float:
        if len(self._reports) < 2:
            return 0.0
        first, last = self._reports[0], self._reports[-1]
        return (last[column] - first[column]) / (last[0] - first[0])


def amount(progress: Mapping[str, Any]) -> str:
    """12 of 1,000 steps."""
    return f"{progress['done']:,} of {progress['total']:,} {progress['unit']}"


def status(progress: Mapping[str, Any], pace: Pace) -> str:
    """Loss or other figures, tokens a second, time left."""
    parts = [f"{name} {value:.4g}" for name, value in progress["figures"].items() if name != "tokens"]
    if pace.tokens_per_second:
        parts.append(f"{pace.tokens_per_second:,.0f} tokens/s")
    left = pace.seconds_left(progress)
    if left is not None:
        parts.append(f"{duration(left)} left")
    return " · ".join(parts)


class ShieldedDisplay:
    """Another display, whose faults end nothing: a closed terminal or a broken pipe takes no training along."""

    def __init__(self, display: Display) -> None:
        self._display: Display | None = display

    def say(self, text: str) -> None:
        self._try("say", text)

    def begin(self, stage: str) -> None:
        self._try("begin", stage)

    def update(self, progress: Mapping[str, Any]) -> None:
        self._try("update", progress)

    def end(self) -> None:
        self._try("end")

    def _try(self, method: str, *arguments: Any) -> None:
        try:
            if self._display is not None:
                getattr(self._display, method)(*arguments)
        except (OSError, ValueError, SystemExit):  # rich turns a broken pipe into SystemExit
            self._display = None


class PlainDisplay:
    """Lines, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._stage, self._pace, self._said_at = stream, "", Pace(), 0.0

    def say(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def begin(self, stage: str) -> None:
        self._stage, self._pace, self._said_at = stage, Pace(), time.monotonic()

    def update(self, progress: Mapping[str, Any]) -> None:
        self._pace.add(progress)
        if time.monotonic() - self._said_at >= _LINE_SECONDS:
            self._said_at = time.monotonic()
            self.say(f"{self._stage}: {amount(progress)} {status(progress, self._pace)}".rstrip())

    def end(self) -> None:
        self._stage = ""


class TerminalDisplay:
    """A bar that moves, with lines above it that stay."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console  # rich costs 0.1 s to import; a log does without

        self._console = Console(file=stream, highlight=False)
        self._pace = Pace()
        self._bar: Any = None
        self._task: Any = None

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def begin(self, stage: str) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._pace = Pace()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[amount]}"),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task(stage, total=None, amount="", status="starting")
        self._bar.start()

    def update(self, progress: Mapping[str, Any]) -> None:
        self._pace.add(progress)
        self._bar.update(
            self._task,
            completed=progress["done"],
            total=progress["total"],
            amount=amount(progress),
            status=status(progress, self._pace),
        )

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def make_display(stream: TextIO | None = None) -> Display:
    """The display for a stream: standard output unless another is given."""
    stream = stream or sys.stdout
    return TerminalDisplay(stream) if stream.isatty() else PlainDisplay(stream)
