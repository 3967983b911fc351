"""A run as it is at this moment: how its stages stand, how fast it goes, its curves, its memory, what it failed with.

In: a run folder, looked at again and again. Out: plain data, for `nanochat watch` and the server's page. Only files are
read, each line of metrics once; what is torn, or gone, is passed over. Not here: how it is shown.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import psutil

from nanochat.errors import wrong_input
from nanochat.running.find import list_runs
from nanochat.running.handover import Handover
from nanochat.running.lease import is_held
from nanochat.running.progress import Pace
from nanochat.running.pulse import Pulses
from nanochat.running.run_folder import PLAN, RunFolder, RunStage
from nanochat.running.store import LOG, METRICS
from nanochat.running.summary import summary

POINTS = 500
"""Of a curve at most: more than a screen has columns for."""
_KEPT = 8
"""Runs whose metrics are kept in memory between two looks."""
_GROUPS = {"lr.": "rates", "data.": "data"}
"""Beginning of a figure's name → the table that it is told in."""


@attrs.define
class Metrics:
    """A metrics.jsonl that grows: each line is read once. Cut back, or another file by now, it is read anew."""

    path: Path
    lines: list[Mapping[str, Any]] = attrs.field(factory=list)
    _read: int = 0
    _inode: int = 0

    def read_on(self) -> Sequence[Mapping[str, Any]]:
        """All whole lines so far."""
        try:
            with self.path.open("rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_ino != self._inode or stat.st_size < self._read:
                    self.lines, self._read, self._inode = [], 0, stat.st_ino
                file.seek(self._read)
                whole, newline, _ = file.read().rpartition(b"\n")
        except OSError:
            self.lines, self._read, self._inode = [], 0, 0
            return self.lines
        self._read += len(whole) + len(newline)
        for line in whole.splitlines():
            with suppress(ValueError, RecursionError):
                told = json.loads(line)
                if isinstance(told, dict) and isinstance(told.get("step"), int):
                    self.lines.append(told)
        return self.lines


@attrs.define
class LiveRun:
    """A run that is watched."""

    run: RunFolder
    _metrics: dict[Path, Metrics] = attrs.field(factory=dict)
    _paces: dict[str, Pace] = attrs.field(factory=dict)

    def look(self) -> dict[str, Any]:
        """How it is now. InputError E405 where it was removed meanwhile."""
        if not (self.run.path / PLAN).exists():
            raise wrong_input(
                "E405",
                f"the run {self.run.path.name} is gone: it was removed",
                help="`nanochat runs` lists what is left",
            )
        found = summary(self.run)
        told = {stage["stage"]: stage for stage in found["stages"]}
        stages = [self._stage(stage, told.get(stage.name, {})) for stage in self.run.stages]
        return {
            **{name: found[name] for name in ("run", "recipe", "state", "done", "planned", "seconds", "started")},
            "stages": stages,
            "error": self._error() if found["state"] == "failed" else None,
        }

    def _stage(self, stage: RunStage, told: Mapping[str, Any]) -> dict[str, Any]:
        path, record = stage.folder.path, stage.folder.record or {}
        lines = self._metrics.setdefault(path, Metrics(path / METRICS)).read_on()
        steps = [line for line in lines if line.get("loss") is not None]
        evaluations = [line for line in lines if "loss" not in line]
        at_work = is_held(path)
        progress = Handover(path).progress() if at_work else None
        return {
            "stage": stage.name,
            "use": stage.use,
            "state": told.get("state", ""),
            "at_work": at_work,
            "progress": progress and {name: progress[name] for name in ("done", "total", "unit")},
            "seconds": record.get("seconds"),
            **self._speed(stage.name, progress, steps[-1] if steps and at_work else {}),
            **_grouped(steps[-1] if steps else {}),
            "evaluation": evaluations[-1] if evaluations else {},
            "memory": _memory(path) if at_work else {},
            "results": {name: f.get("value") for name, f in record.get("figures", {}).items() if f.get("n")},
            "curves": {
                "loss": _curve(steps, "loss"),
                **{name: _curve(evaluations, name) for name in _bits_per_byte(evaluations)},
            },
        }

    def _speed(
        self, stage: str, progress: Mapping[str, Any] | None, line: Mapping[str, Any]
    ) -> dict[str, float | None]:
        """As the last seconds have it; as the last line of metrics does where these say nothing."""
        pace = self._paces.setdefault(stage, Pace())
        left = None
        if progress is not None:
            pace.add(progress)
            left = pace.seconds_left(progress)
        return {
            "tokens_per_second": pace.tokens_per_second or line.get("tokens_per_second"),
            "seconds_left": line.get("seconds_left") if left is None else left,
        }

    def _error(self) -> dict[str, str] | None:
        """What the stage that failed last said."""
        for stage in reversed(self.run.stages):
            if stage.folder.record is None and (error := Handover(stage.folder.path).error()) is not None:
                first = error.diagnostics[0]
                log = str(stage.folder.path / LOG)
                told = {"code": first.code, "message": first.message, "help": first.help, "log": log}
                return {"stage": stage.name, **told}
        return None


_SHOWN = ("recipe", "state", "started", "done", "planned", "seconds")


@attrs.define
class LiveRuns:
    """All runs of this home, for `nanochat.serving`."""

    _looked_at: dict[str, LiveRun] = attrs.field(factory=dict)

    def list(self) -> list[dict[str, Any]]:
        """Each in a few words, the newest first."""
        return [self._in_short(summary(run)) for run in list_runs()]

    def run(self, name: str) -> dict[str, Any] | None:
        """One as it is now; None where none has this very name."""
        found = next((run for run in list_runs() if run.path.name == name), None)
        if found is None:
            return None
        live = self._looked_at.pop(name, None) or LiveRun(found)
        self._looked_at[name] = live  # the last
        while len(self._looked_at) > _KEPT:
            del self._looked_at[next(iter(self._looked_at))]
        return {"id": name, **live.look()}

    def _in_short(self, told: Mapping[str, Any]) -> dict[str, Any]:
        figures = {name: figure["value"] for name, figure in told["figures"].items() if figure.get("n")}
        return {"id": told["run"], **{name: told[name] for name in _SHOWN}, "figures": figures}


def run_to_watch() -> RunFolder:
    """The newest run that is at work, else the newest. InputError E405 where there is none."""
    runs = list_runs()
    if not runs:
        raise wrong_input("E405", "there is no run yet", help="train one: nanochat-run recipes/quickstart.toml")
    return next((run for run in runs if is_held(run.path)), runs[0])


def _grouped(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of metrics as `figures`, `rates` and `data`."""
    found: dict[str, dict[str, Any]] = {"figures": {}, "rates": {}, "data": {}}
    for name, value in line.items():
        beginning = next((known for known in _GROUPS if name.startswith(known)), "")
        found[_GROUPS.get(beginning, "figures")][name.removeprefix(beginning)] = value
    return found


def _memory(folder: Path) -> dict[str, int]:
    """Rank → bytes in memory, of the ranks on this machine."""
    found = {}
    for rank, process in sorted(Pulses(Handover(folder).folder).ranks().items()):
        with suppress(psutil.Error):
            found[str(rank)] = process.memory_info().rss
    return found


def _bits_per_byte(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for line in evaluations for name in line if name.rpartition(".")[2] == "bpb"))


def _curve(lines: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    """(step, value), every so many lines one, the last among them."""
    points = [(line["step"], line[name]) for line in lines if isinstance(line.get(name), int | float)]
    stride = -(-len(points) // POINTS) or 1
    return points[::-1][::stride][::-1]
