"""What a person sees while stages run: a bar on a terminal, a plain line every ten seconds in a log, or nothing.

In: the progress that a worker reports. Out: text on one stream. Nothing here decides anything.
"""

import json
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from nanochat.quantity import duration

_WINDOW_SECONDS = 15.0
_LINE_SECONDS = 10.0
WARNING = "warning"
"""What a line begins with that is shown though nothing else is to be."""
_LEAST_BAR = 8
"""Characters; a shorter bar says nothing."""


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


def in_one_line(stage: str, progress: Mapping[str, Any], pace: Pace) -> str:
    """base: 12 of 1,000 steps loss 7.1 · 520 tokens/s · 3 min 12 s left"""
    status = [*_figures(progress), *_rate(pace), *_left(progress, pace)]
    return f"{stage}: {amount(progress)} {' · '.join(status)}".rstrip()


def bar_line(stage: str, progress: Mapping[str, Any] | None, pace: Pace, seconds: float, width: int) -> str:
    """A stage in a line of at most `width` characters: what fits of what is known, and a bar where it has room too.

    seconds: since it began, told until it reports.
    """
    if progress is None:
        return f"{stage} starting · {duration(seconds)}"[:width]
    figures, rate, left = _figures(progress), _rate(pace), _left(progress, pace)
    parts = [amount(progress), *figures, *rate, *left]
    for least_wanted in (*figures[:0:-1], *rate, *figures[:1], *left):
        if len(f"{stage} {' · '.join(parts)}") <= width:
            break
        parts.remove(least_wanted)
    text = " · ".join(parts)
    room = width - len(f"{stage}  {text}")
    if room < _LEAST_BAR:
        return f"{stage} {text}"[:width]
    filled = int(room * min(1.0, progress["done"] / max(1, progress["total"])))
    return f"{stage} {'━' * filled}{'╌' * (room - filled)} {text}"


def _figures(progress: Mapping[str, Any]) -> list[str]:
    return [f"{name} {value:.4g}" for name, value in progress["figures"].items() if name != "tokens"]


def _rate(pace: Pace) -> list[str]:
    return [f"{pace.tokens_per_second:,.0f} tokens/s"] if pace.tokens_per_second else []


def _left(progress: Mapping[str, Any], pace: Pace) -> list[str]:
    left = pace.seconds_left(progress)
    return [] if left is None else [f"{duration(left)} left"]


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
        self._stream, self._stage, self._pace, self._said_at, self._said = stream, "", Pace(), 0.0, 0.0

    def say(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def begin(self, stage: str) -> None:
        self._stage, self._pace, self._said_at = stage, Pace(), time.monotonic()

    def update(self, progress: Mapping[str, Any]) -> None:
        self._pace.add(progress)
        # The runner asks ten times a second; a stage that reports nothing new, as at its end, has nothing to say.
        if progress["time"] != self._said and time.monotonic() - self._said_at >= _LINE_SECONDS:
            self._said_at, self._said = time.monotonic(), progress["time"]
            self.say(in_one_line(self._stage, progress, self._pace))

    def end(self) -> None:
        self._stage = ""


class QuietDisplay:
    """Warnings alone, on a stream of their own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def say(self, text: str) -> None:
        if text.startswith(WARNING):
            self._stream.write(text + "\n")
            self._stream.flush()

    def begin(self, stage: str) -> None: ...

    def update(self, progress: Mapping[str, Any]) -> None: ...

    def end(self) -> None: ...


class JsonDisplay:
    """An object a line, for programs: `said`, or a stage's progress every ten seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._stage, self._said_at, self._said = stream, "", 0.0, 0.0

    def say(self, text: str) -> None:
        self._write({"time": round(time.time(), 3), "said": text.strip()})

    def begin(self, stage: str) -> None:
        self._stage, self._said_at = stage, 0.0

    def update(self, progress: Mapping[str, Any]) -> None:
        if progress["time"] != self._said and time.monotonic() - self._said_at >= _LINE_SECONDS:
            self._said_at, self._said = time.monotonic(), progress["time"]
            self._write({"stage": self._stage, **progress})

    def end(self) -> None:
        self._stage = ""

    def _write(self, told: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(told, ensure_ascii=False) + "\n")
        self._stream.flush()


class TerminalDisplay:
    """A line with a bar that moves, and lines above it that stay."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console  # rich costs 0.1 s to import; a log does without

        self._console = Console(file=stream, highlight=False)
        self._pace = Pace()
        self._stage, self._began = "", 0.0
        self._progress: Mapping[str, Any] | None = None
        self._live: Any = None

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def begin(self, stage: str) -> None:
        from rich.live import Live

        self._stage, self._began, self._progress, self._pace = stage, time.monotonic(), None, Pace()
        self._live = Live(get_renderable=self._line, console=self._console, transient=True, refresh_per_second=4)
        self._live.start()

    def update(self, progress: Mapping[str, Any]) -> None:
        self._pace.add(progress)
        self._progress = progress

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _line(self) -> Any:
        from rich.text import Text

        seconds = time.monotonic() - self._began
        line = bar_line(self._stage, self._progress, self._pace, seconds, self._console.width)
        text = Text(line, no_wrap=True, overflow="crop")
        text.highlight_regex("━+", "cyan")
        text.highlight_regex("╌+", "dim")
        return text


def make_display(stream: TextIO | None = None, *, quiet: bool = False, as_json: bool = False) -> Display:
    """The display for a stream: standard output unless another is given."""
    if quiet:
        return QuietDisplay(stream or sys.stderr)
    stream = stream or sys.stdout
    if as_json:
        return JsonDisplay(stream)
    return TerminalDisplay(stream) if stream.isatty() else PlainDisplay(stream)
