"""What the finished stages of a run measured, and how long they took.

In: a run folder, its records and events. Out: stages with their figures, and figures as text. Not here: reports.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from nanochat.markdown import table
from nanochat.quantity import size
from nanochat.running.json_file import read_lines
from nanochat.running.run_folder import EVENTS, SET_ASIDE, RunFolder
from nanochat.running.store import StageFolder


@attrs.frozen(kw_only=True)
class FinishedStage:
    """A stage of a run that has its record."""

    name: str
    folder: StageFolder
    record: Mapping[str, Any]

    @property
    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """The record's figures by name."""
        found: Mapping[str, Mapping[str, Any]] = self.record.get("figures", {})
        return found


def finished_stages(run: RunFolder) -> list[FinishedStage]:
    """The run's stages that are done, in the plan's order."""
    found = []
    for stage in run.stages:
        record = stage.folder.record
        if record is not None:
            found.append(FinishedStage(name=stage.name, folder=stage.folder, record=record))
    return found


def attempts_at(stage: str, events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A run's events of the attempts that led to a stage's present result: those since it was last set aside.

    One that went back to a checkpoint was not set aside: what came before the checkpoint is part of its result.
    """
    own = [event for event in events if event.get("stage") == stage]
    return own[max((i + 1 for i, event in enumerate(own) if event.get("event") == SET_ASIDE), default=0) :]


def stage_seconds(stage: str, key: str, events: Iterable[Mapping[str, Any]]) -> float:
    """Wall time of these attempts."""
    ended = [event for event in attempts_at(stage, events) if event.get("key") == key]
    return sum(float(event.get("seconds", 0.0)) for event in ended)


def seconds_by_stage(run: RunFolder) -> dict[str, float]:
    """Wall time of each of a run's stages, in whatever run its attempts were, by its folder's name; only of those of
    which it is told.
    """
    events = list(read_lines(run.path / EVENTS))
    found = {}
    for stage in run.stages:
        so_far = stage_seconds(stage.name, stage.folder.key, events)
        found[stage.folder.path.name] = float((stage.folder.record or {}).get("seconds", so_far))
    return {name: seconds for name, seconds in found.items() if seconds}


def headline(figures: Mapping[str, Mapping[str, Any]], limit: int = 4) -> str:
    """A record's measured figures in one line."""
    measured = {name: figure for name, figure in figures.items() if figure.get("n")}
    return ", ".join(f"{name} {value_text(name, figure['value'])}" for name, figure in list(measured.items())[:limit])


def accuracy_table(stages: Iterable[FinishedStage]) -> str:
    """What evaluation stages measured, as Markdown; empty where there is none."""
    rows = [row for stage in stages if stage.record.get("produces") == "figures" for row in figure_rows(stage)]
    return "## Accuracy\n\n" + table(FIGURE_COLUMNS, rows) if rows else ""


FIGURE_COLUMNS = ("skill", "value", "n", "standard error")


def figure_rows(stage: FinishedStage) -> list[list[str]]:
    """What a stage measured, as FIGURE_COLUMNS has it."""
    return [
        [
            name.removesuffix(".accuracy"),
            value_text(name, figure["value"]),
            count_text(figure),
            error_text(name, figure),
        ]
        for name, figure in stage.figures.items()
    ]


def value_text(name: str, value: float | None) -> str:
    """A figure: an accuracy as a percentage."""
    if value is None:
        return "not finite"
    if "accuracy" in name:
        return f"{100 * value:.1f}%"
    return whole_text(value) if abs(value) >= 1000 else f"{value:.4g}"


def measured_text(name: str, value: float, error: float | None = None) -> str:
    """A figure beside others, with what it may be off by: 1.622 ± 0.00095, 45.0% ± 1.2%, 1.4 GB ± 29 MB."""
    shown = size(value) if _is_size(name, value) else value_text(name, value)
    return f"{shown} {error_text(name, {'standard_error': error})}" if error else shown


def error_text(name: str, figure: Mapping[str, Any]) -> str:
    """Its standard error: ± 1.2%; empty where it has none."""
    error = figure.get("standard_error")
    if error is None:
        return ""
    if "accuracy" in name:
        return f"± {100 * error:.1f}%"
    if _is_size(name, error):
        return f"± {size(error)}"
    return f"± {whole_text(error) if error >= 100 else f'{error:.2g}'}"


def _is_size(name: str, value: float) -> bool:
    """Whether it is a size in bytes; one that is not finite has no unit."""
    return name.endswith("_bytes") and math.isfinite(value)


def count_text(figure: Mapping[str, Any]) -> str:
    """Of how many examples; empty where it is of none."""
    return whole_text(figure.get("n") or None)


def whole_text(value: float | None) -> str:
    """A number of things; empty where it is not known."""
    return "" if value is None else f"{value:,.0f}"
