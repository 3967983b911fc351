"""What the runner and a stage's workers tell one another: small files below the stage's folder.

    worker/   inputs.json                                                     runner → workers
              progress.json · result.json · stopped.json · error-RANK.json    workers → runner
              pulse-RANK.json                                                 (nanochat/running/pulse.py)

A launcher's exit code says little (torchrun's agent gives 1 for any ending that is not a success), so these files
decide how an attempt ended. They belong to one attempt: the runner clears them before it starts the next.
"""

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from nanochat.errors import Diagnostic, InputError, Location, NanochatError, StageError
from nanochat.running.json_file import canonical, read_json, write_json
from nanochat.running.restarts import LOST

FOLDER = "worker"


@attrs.frozen
class Handover:
    """The files of one stage folder's current attempt."""

    stage_folder: Path

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.stage_folder / FOLDER

    def clear(self) -> None:
        """Forget the attempt before."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    # Runner → workers

    def write_inputs(self, inputs: Mapping[str, Path]) -> None:
        """Artifact reference → folder."""
        write_json(self.folder / "inputs.json", {reference: str(place) for reference, place in inputs.items()})

    def inputs(self) -> dict[str, Path]:
        """What `write_inputs` wrote."""
        return {reference: Path(place) for reference, place in (read_json(self.folder / "inputs.json") or {}).items()}

    # Workers → runner

    def write_result(self, result: Mapping[str, Any]) -> None:
        """The stage has finished, with this artifact and these figures."""
        write_json(self.folder / "result.json", result)

    def result(self) -> dict[str, Any] | None:
        """What `write_result` wrote."""
        return read_json(self.folder / "result.json")

    def write_stopped(self, done: int, total: int, unit: str) -> None:
        """The stage has saved and stopped in order."""
        write_json(self.folder / "stopped.json", {"done": done, "total": total, "unit": unit})

    def stopped(self) -> dict[str, Any] | None:
        """What `write_stopped` wrote."""
        return read_json(self.folder / "stopped.json")

    def write_progress(self, progress: Mapping[str, Any]) -> None:
        """How far the stage is. Replaced whole, not synced: a few times a second."""
        temporary = self.folder / ".progress.tmp"
        temporary.write_text(canonical({"time": time.time(), **progress}))
        temporary.replace(self.folder / "progress.json")

    def progress(self) -> dict[str, Any] | None:
        """What `write_progress` wrote last."""
        return read_json(self.folder / "progress.json")

    def write_error(self, error: NanochatError, *, rank: int) -> None:
        """What a rank failed with."""
        described = {
            "time": time.time(),
            "pid": os.getpid(),
            "rank": rank,
            "exit_code": error.exit_code,
            "diagnostics": [attrs.asdict(diagnostic) for diagnostic in error.diagnostics],
        }
        write_json(self.folder / f"error-{rank}.json", described)

    def has_error(self) -> bool:
        """Whether a rank has failed."""
        return any(self.folder.glob("error-*.json"))

    def error(self) -> NanochatError | None:
        """What the rank that failed first failed with; the others mostly fail because it is gone.

        One that lost the others may say so before that which let them down has written why.
        """
        found = [e for path in self.folder.glob("error-*.json") if (e := read_json(path)) is not None]
        if not found:
            return None
        first = min(found, key=lambda e: (e["diagnostics"][0]["code"] == LOST, float(e["time"])))
        diagnostics = [_diagnostic(described) for described in first["diagnostics"]]
        wrong = first["exit_code"] == InputError.exit_code
        return InputError(diagnostics) if wrong else StageError(diagnostics)


def _diagnostic(described: Mapping[str, Any]) -> Diagnostic:
    location = described.get("location")
    return Diagnostic(**{**described, "location": Location(**location) if location else None})
