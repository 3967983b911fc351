"""A stage's reporter in a worker: figures to metrics.jsonl, progress and notes to the runner, figures to the trackers.

Only rank 0 has one that speaks; the others are silent, so that a stage may report alike on every rank.
"""

import contextlib
import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from nanochat.running.handover import Handover
from nanochat.running.json_file import append_line, read_lines, write_text
from nanochat.running.provenance import now
from nanochat.running.store import METRICS
from nanochat.running.tracker import LOGGER, Audience

_PROGRESS_SECONDS = 0.2


class FileReporter:
    """Rank 0's reporter: a `nanochat.stages.context.Reporter`."""

    def __init__(self, stage: str, folder: Path, events: Path, audience: Audience) -> None:
        self.done, self.total, self.unit = 0, 0, ""
        self._stage, self._metrics, self._events = stage, folder / METRICS, events
        self._handover, self._audience = Handover(folder), audience
        self._shown_at = -math.inf

    def metrics(self, step: int, figures: Mapping[str, float]) -> None:
        """Append a line to metrics.jsonl. A value that is not finite becomes null: JSON has no NaN."""
        finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        append_line(self._metrics, {"step": step, "time": round(time.time(), 3), **finite})
        self._audience.log(step, figures)

    def progress(self, done: int, total: int, figures: Mapping[str, float], unit: str = "steps") -> None:
        """Tell the runner, a few times a second."""
        self.done, self.total, self.unit = done, total, unit
        clock = time.monotonic()
        if clock - self._shown_at < _PROGRESS_SECONDS and done < total:
            return
        self._shown_at = clock
        finite = {name: value for name, value in figures.items() if math.isfinite(value)}
        self._handover.write_progress({"done": done, "total": total, "unit": unit, "figures": finite})

    def note(self, text: str) -> None:
        """Append a note to the run's events, which the runner shows."""
        append_line(self._events, {"time": now(), "event": "note", "stage": self._stage, "text": text})

    def truncate_metrics(self, step: int) -> None:
        """Cut off the lines of steps beyond the one that the stage goes on from, so that steps only ever grow."""
        if self._metrics.exists():
            kept = [line for line in read_lines(self._metrics) if line.get("step", 0) <= step]
            write_text(self._metrics, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))


class NotedWarnings(logging.Handler):
    """Shows what plugins log as a warning (a source that waits for its data, say), or what is wrong with trackers: they
    have no reporter.
    """

    def __init__(self, reporter: FileReporter) -> None:
        super().__init__(logging.WARNING)
        self._reporter = reporter
        self.addFilter(lambda record: record.name.startswith(("nanochat_", LOGGER)))

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # a full disk ends the stage in a place that says so
            self._reporter.note(record.getMessage())

    def __enter__(self) -> "NotedWarnings":
        logging.getLogger().addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger().removeHandler(self)


class SilentReporter:
    """The reporter of every other rank."""

    done, total, unit = 0, 0, ""

    def metrics(self, step: int, figures: Mapping[str, float]) -> None: ...

    def progress(self, done: int, total: int, figures: Mapping[str, float], unit: str = "steps") -> None: ...

    def note(self, text: str) -> None: ...

    def truncate_metrics(self, step: int) -> None: ...
