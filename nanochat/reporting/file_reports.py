"""The reports of what a process runs: written at an end, and refreshed while it goes on by another process of low
priority, so that plots never keep the runner from its workers.

In: runs and sweeps. Out: their reports' files. What stands in a report, and NumPy with it, is imported where one is
written: a run begins without.
"""

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import attrs

from nanochat.running.run_folder import RunFolder

if TYPE_CHECKING:
    from nanochat.sweeping.sweep import Sweep

REFRESH_SECONDS = 60.0
"""Between two reports of a run that is going on, at least."""
REFRESH_SHARE = 0.02
"""Of the time, at most, that writing them takes."""


@attrs.define
class FileReports:
    """Writes the reports of the runs and sweeps that this process walks."""

    _child: subprocess.Popen[bytes] | None = None
    _started: float = attrs.field(factory=time.monotonic)
    _pause: float = REFRESH_SECONDS

    @property
    def idle(self) -> bool:
        """Whether no process of it is writing."""
        return self._child is None

    def write(self, run: RunFolder) -> None:
        """Now, here."""
        self._end()
        from nanochat.reporting.files import write_report
        from nanochat.reporting.run_report import run_document
        from nanochat.reporting.subject import read_subject

        write_report(run_document(read_subject(run)), run.path)

    def refresh(self, run: RunFolder) -> None:
        """Start a process that writes it, where the last one is long ago."""
        if self._child is not None:
            if self._child.poll() is not None:
                took = time.monotonic() - self._started
                self._pause, self._child = max(REFRESH_SECONDS, took / REFRESH_SHARE), None
        elif time.monotonic() - self._started > self._pause:
            self._started = time.monotonic()
            quiet = subprocess.DEVNULL
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "nanochat.reporting", str(run.path)],
                stdin=quiet,
                stdout=quiet,
                stderr=quiet,
            )

    def write_sweep(self, sweep: "Sweep") -> None:
        """Now, here."""
        from nanochat.reporting.files import write_report
        from nanochat.reporting.sweep_report import sweep_document

        write_report(sweep_document(sweep), sweep.path)

    def _end(self) -> None:
        """An older report must not come after a newer one."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None
