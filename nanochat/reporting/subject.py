"""What a report is about: a run and its stages as they lie on disk, read once, whatever state they are in.

In: a run's folder. Out: plain facts. What cannot be read is left out and said: a torn line of metrics, a lock whose
plugins are gone, a run that was removed.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import attrs

from nanochat.config import Component
from nanochat.errors import NanochatError
from nanochat.estimating.stage_estimate import estimate_stage
from nanochat.recipe.load import load_recipe
from nanochat.recipe.resolved import Recipe
from nanochat.registry import Registry, load_registry
from nanochat.reporting.document import State
from nanochat.running.figures import FinishedStage, attempts_at
from nanochat.running.json_file import read_json, read_lines
from nanochat.running.lease import is_held
from nanochat.running.run_folder import EVENTS, LOCK, RunFolder, RunStage
from nanochat.running.store import CONFIG, METRICS, StageFolder
from nanochat.running.summary import begun, ending, so_far, spent, stage_state, standing

SETTINGS = "report.json"
"""Of a run's folder: what was said of prices and power."""


@attrs.frozen(kw_only=True, eq=False)
class ReportedStage:
    """A stage of a report."""

    name: str
    use: str
    produces: str
    folder: StageFolder
    record: Mapping[str, Any]
    """Empty where it is not finished."""
    metrics: Sequence[Mapping[str, Any]]
    torn: int
    """Lines of metrics.jsonl that cannot be read."""
    flops_per_token: int | None
    """Of training; None where it is not known."""
    data: Mapping[str, Component]
    """Its mixture, as its recipe has it; empty where it is not known."""
    attempts: Sequence[Mapping[str, Any]]
    """The run's events of it."""
    at_work: Mapping[str, Any] | None = None
    """The beginning of the attempt that the run is at."""

    @property
    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """What its record says."""
        found: Mapping[str, Mapping[str, Any]] = self.record.get("figures", {})
        return found

    @property
    def seconds(self) -> float:
        """Wall time of its attempts, in whatever run they were; of one that is at work, so far."""
        return float(self.record.get("seconds", spent(self.attempts) + so_far(self.at_work)))

    @property
    def state(self) -> State:
        """How it stands; unfinished: it was cut off, or not begun."""
        return cast(State, stage_state(self.folder, self.attempts))

    @property
    def standing(self) -> str:
        """The same in words."""
        return standing(self.folder, self.attempts)

    @property
    def finished(self) -> FinishedStage:
        """As those rooms know it that print figures."""
        return FinishedStage(name=self.name, folder=self.folder, record=self.record)


@attrs.frozen(kw_only=True, eq=False, slots=False)
class Subject:
    """A run, read."""

    run: RunFolder
    recipe: Recipe | None
    """None where the lock is gone, or cannot be read any more."""
    trouble: str
    """Why it cannot."""
    events: Sequence[Mapping[str, Any]]
    stages: Sequence[ReportedStage]

    @cached_property
    def environment(self) -> Mapping[str, Any]:
        """env.json."""
        return self.run.environment

    @property
    def state(self) -> State:
        """How the run stands. Who writes a report at its end still holds it, so what has ended is looked at first."""
        if self.stages and all(stage.record for stage in self.stages):
            return "finished"
        began = max((i for i, e in enumerate(self.events) if e.get("event") == "run_started"), default=0)
        ended = ending(self.events[began:])
        return cast(State, "running" if ended == "unfinished" and is_held(self.run.path) else ended)


def read_subject(run: RunFolder, *, registry: Registry | None = None) -> Subject:
    """Read a run. Costs, data and FLOPs need its recipe, and so its plugins; without them there is less to tell."""
    recipe, trouble = None, ""
    try:
        registry = registry or load_registry()
        recipe = load_recipe(run.path / LOCK, record=True, registry=registry)
    except NanochatError as fault:
        trouble = fault.diagnostics[0].message
    events = list(read_lines(run.path / EVENTS))
    at_work = begun(run, events)
    stages = [
        attrs.evolve(
            _stage(planned, recipe, registry, attempts_at(planned.name, events)),
            at_work=at_work if at_work is not None and at_work.get("stage") == planned.name else None,
        )
        for planned in run.stages
    ]
    return Subject(run=run, recipe=recipe, trouble=trouble, events=events, stages=stages)


def _stage(
    planned: RunStage, recipe: Recipe | None, registry: Registry | None, attempts: Sequence[Mapping[str, Any]]
) -> ReportedStage:
    metrics, torn = read_metrics(planned.folder.path / METRICS)
    resolved = recipe.stages.get(planned.name) if recipe is not None else None
    data = getattr(resolved.config, "data", None) if resolved is not None else None
    return ReportedStage(
        name=planned.name,
        use=planned.use,
        produces=planned.produces,
        folder=planned.folder,
        record=planned.folder.record or {},
        metrics=metrics,
        torn=torn,
        flops_per_token=_flops(recipe, registry, planned.name) if metrics else None,
        data=data if isinstance(data, dict) else {},
        attempts=attempts,
    )


def stage_alone(folder: StageFolder) -> ReportedStage:
    """A stage whose run is gone: what its own folder says."""
    described = read_json(folder.path / CONFIG) or {}
    metrics, torn = read_metrics(folder.path / METRICS)
    return ReportedStage(
        name=str(described.get("stage", folder.path.name)),
        use=str(described.get("use", "")),
        produces=str(described.get("produces", "")),
        folder=folder,
        record=folder.record or {},
        metrics=metrics,
        torn=torn,
        flops_per_token=None,
        data={},
        attempts=[],
    )


def read_metrics(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The lines of a metrics file, and how many there are that cannot be read: a word is no measurement."""
    found = [line for line in read_lines(path) if not any(isinstance(value, str) for value in line.values())]
    try:
        written = sum(bool(line.strip()) for line in path.read_bytes().splitlines())
    except OSError:
        written = 0
    return found, max(0, written - len(found))


def _flops(recipe: Recipe | None, registry: Registry | None, stage: str) -> int | None:
    if recipe is None or registry is None or stage not in recipe.stages:
        return None
    try:
        training = estimate_stage(recipe.stages[stage], recipe, registry, 0).training
    except NanochatError:
        return None
    return training.flops_per_token if training is not None else None


def settings_of(run: RunFolder) -> Mapping[str, float]:
    """What was said of prices and power for the reports of a run: `price`, `watts`."""
    return read_json(run.path / SETTINGS) or {}
