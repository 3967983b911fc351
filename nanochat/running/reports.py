"""The report of a run that is going on: who writes it, and that its faults end nothing.

In: a run, and what writes reports, which is above this room. Out: a report that is written when a run ends, however it
ends, and now and then before. Not here: what stands in it.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import attrs

from nanochat.running.progress import Display
from nanochat.running.run_folder import RunFolder


class Reports(Protocol):
    """What writes the reports of runs."""

    def write(self, run: RunFolder) -> None:
        """Write it now."""

    def refresh(self, run: RunFolder) -> None:
        """See to it that it is not too old. Called several times a second: it returns at once."""


class NoReports:
    """Writes none."""

    def write(self, run: RunFolder) -> None: ...

    def refresh(self, run: RunFolder) -> None: ...


@attrs.frozen(kw_only=True)
class RunReport:
    """The report of one run. As a display it hands on what it is told, and has the report refreshed meanwhile."""

    run: RunFolder
    reports: Reports
    display: Display

    def write(self) -> None:
        """Write it; what goes wrong is said, and is no fault of the run."""
        try:
            self.reports.write(self.run)
        except Exception as fault:
            again = f"`nanochat report {self.run.path.name}` tries again"
            self.display.say(f"warning: the report was not written: {type(fault).__name__}: {fault}; {again}")

    def say(self, text: str) -> None:
        """A line that stays."""
        self.display.say(text)

    def begin(self, stage: str) -> None:
        """A stage starts."""
        self.display.begin(stage)

    def update(self, progress: Mapping[str, Any]) -> None:
        """How far it is."""
        self.display.update(progress)
        try:
            self.reports.refresh(self.run)
        except OSError as fault:  # no process can be started, say
            self.run.event("report_failed", fault=str(fault))

    def end(self) -> None:
        """The stage has ended."""
        self.display.end()
