"""Reports as files: report.md and report.html of a run, a stage or a sweep, written where they say something new.

In: what is reported on. Out: two files beside it. Here too: how a run that is going on has its report refreshed, by
another process of low priority, so that plots never keep the runner from its workers.
"""

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import attrs

from nanochat.registry import Registry
from nanochat.reporting.as_markdown import as_markdown
from nanochat.reporting.as_page import as_page
from nanochat.reporting.document import Document
from nanochat.reporting.run_report import run_document, stage_document
from nanochat.reporting.subject import SETTINGS, read_subject, settings_of, stage_alone
from nanochat.reporting.sweep_report import sweep_document
from nanochat.running.json_file import write_json, write_text
from nanochat.running.run_folder import PAGE, REPORT, RunFolder
from nanochat.running.store import StageFolder
from nanochat.sweeping.sweep import Sweep

REFRESH_SECONDS = 60.0
"""Between two reports of a run that is going on, at least."""
REFRESH_SHARE = 0.02
"""Of the time, at most, that writing them takes."""


def write_report(document: Document, folder: Path) -> str:
    """Write both files; returns the Markdown."""
    text = as_markdown(document, PAGE)
    for name, content in ((REPORT, text), (PAGE, as_page(document))):
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8", errors="replace") != content:
            write_text(path, content)
    return text


def write_run_report(run: RunFolder, *, registry: Registry | None = None) -> str:
    """The report of a run; returns the Markdown."""
    return write_report(run_document(read_subject(run, registry=registry)), run.path)


def write_stage_report(folder: StageFolder, run: RunFolder | None) -> str:
    """The report of one stage, beside its result; returns the Markdown. run: that made it, where it is still there."""
    subject = read_subject(run) if run is not None else None
    planned = [stage for stage in subject.stages if stage.folder.key == folder.key] if subject is not None else []
    return write_report(stage_document(planned[0] if planned else stage_alone(folder), subject), folder.path)


def settle(run: RunFolder, said: Mapping[str, float | None]) -> None:
    """Remember prices and power for this and later reports of a run."""
    known = settings_of(run)
    new = {**known, **{name: value for name, value in said.items() if value is not None}}
    if new != known:
        write_json(run.path / SETTINGS, new)


def write_sweep_report(sweep: Sweep, figure: str | None = None) -> str:
    """The report of a sweep; returns the Markdown."""
    return write_report(sweep_document(sweep, figure), sweep.path)


@attrs.define
class FileReports:
    """Writes the reports of the runs and sweeps that this process walks."""

    _child: subprocess.Popen[bytes] | None = None
    _started: float = attrs.field(factory=time.monotonic)
    _pause: float = REFRESH_SECONDS

    def write(self, run: RunFolder) -> None:
        """Now, here."""
        self._end()
        write_run_report(run)

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

    def write_sweep(self, sweep: Sweep) -> None:
        """Now, here."""
        write_sweep_report(sweep)

    def _end(self) -> None:
        """An older report must not come after a newer one."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None
