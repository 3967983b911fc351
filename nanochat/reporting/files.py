"""Reports as files: report.md and report.html of a run, a stage or a sweep, written where they say something new.

In: what is reported on. Out: two files beside it. Not here: when it is written (file_reports.py).
"""

import re
from collections.abc import Mapping
from pathlib import Path

from nanochat.reporting.as_markdown import as_markdown
from nanochat.reporting.as_page import as_page
from nanochat.reporting.document import Document, Pictures
from nanochat.reporting.run_report import stage_document
from nanochat.reporting.subject import SETTINGS, read_subject, settings_of, stage_alone
from nanochat.reporting.svg import standalone
from nanochat.running.json_file import write_json, write_text
from nanochat.running.run_folder import PAGE, REPORT, RunFolder
from nanochat.running.store import StageFolder

_LONGEST_NAME = 80
"""Characters of a file's name."""


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
