"""Reports as files: report.md and report.html of a run, a stage or a sweep, written where they say something new.

In: what is reported on. Out: two files beside it. Here too: how a run that is going on has its report refreshed, by
another process of low priority, so that plots never keep the runner from its workers.
"""

import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import attrs

from nanochat.reporting.as_markdown import as_markdown
from nanochat.reporting.as_page import as_page
from nanochat.reporting.document import Document, Pictures
from nanochat.reporting.run_report import run_document, stage_document
from nanochat.reporting.subject import SETTINGS, read_subject, settings_of, stage_alone
from nanochat.reporting.svg import standalone
from nanochat.reporting.sweep_report import sweep_document
from nanochat.running.json_file import write_json, write_text
from nanochat.running.run_folder import PAGE, REPORT, RunFolder
from nanochat.running.store import StageFolder
from nanochat.sweeping.sweep import Sweep

REFRESH_SECONDS = 60.0
"""Between two reports of a run that is going on, at least."""
_LONGEST_NAME = 80
"""Characters of a file's name."""
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


def write_plots(document: Document, folder: Path) -> list[Path]:
    """Each plot of a report as an SVG file of its own, whose colours follow light and dark."""
    folder.mkdir(parents=True, exist_ok=True)
    found = [block for section in document.sections for block in section.blocks if isinstance(block, Pictures)]
    written = []
    for picture in (picture for block in found for picture in block.pictures):
        path = folder / (re.sub(r"[^a-z0-9]+", "-", picture.caption.lower()).strip("-")[:_LONGEST_NAME] + ".svg")
        write_text(path, standalone(picture.svg))
        written.append(path)
    return written


def document_of_stage(folder: StageFolder, run: RunFolder | None) -> Document:
    """One stage's. run: that made it, where it is still there."""
    subject = read_subject(run) if run is not None else None
    planned = [stage for stage in subject.stages if stage.folder.key == folder.key] if subject is not None else []
    return stage_document(planned[0] if planned else stage_alone(folder), subject)


def settle(run: RunFolder, said: Mapping[str, float | None]) -> None:
    """Remember prices and power for this and later reports of a run."""
    known = settings_of(run)
    new = {**known, **{name: value for name, value in said.items() if value is not None}}
    if new != known:
        write_json(run.path / SETTINGS, new)


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

    def write_sweep(self, sweep: Sweep) -> None:
        """Now, here."""
        write_report(sweep_document(sweep), sweep.path)

    def _end(self) -> None:
        """An older report must not come after a newer one."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None
