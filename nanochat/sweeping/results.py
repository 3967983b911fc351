"""What came out of a sweep: every trial's figures, and their means over the seeds of trials that are else alike.

In: a sweep. Out: rows of plain data. The standard error is that of the mean over seeds, s / √n with n − 1 in s; a
figure's own error, of one measurement, is not in it. One seed has none.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from nanochat.errors import InputError
from nanochat.home import runs_dir
from nanochat.running.run_folder import RunFolder
from nanochat.running.summary import summary
from nanochat.sweeping.axes import SEED
from nanochat.sweeping.sweep import Sweep, Trial


@attrs.frozen(kw_only=True)
class Row:
    """A trial, or trials that differ in the seed alone."""

    settings: Mapping[str, str]
    """Key → value as typed."""
    state: str
    runs: Sequence[str]
    seconds: float | None
    figures: Mapping[str, float]
    errors: Mapping[str, float]
    """Figure → standard error of its mean over seeds."""
    error: str = ""


def rows(sweep: Sweep) -> list[Row]:
    """One row a trial, in the sweep's order."""
    return [_row(trial) for trial in sweep.trials()]


def over_seeds(found: Sequence[Row]) -> list[Row]:
    """One row for all trials that differ in the seed alone; of those that are done."""
    groups: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    for row in found:
        if row.state == "done":
            alike = tuple((key, value) for key, value in row.settings.items() if key != SEED)
            groups.setdefault(alike, []).append(row)
    return [_mean(dict(alike), group) for alike, group in groups.items()]


def sorted_by(found: Sequence[Row], column: str) -> list[Row]:
    """By a figure or a key, the least first; `-COLUMN` the largest first. Rows without it come last."""
    name, largest = column.removeprefix("-"), column.startswith("-")
    having = [row for row in found if _sortable(row, name) is not None]
    having.sort(key=lambda row: _sortable(row, name) or (0, 0.0, ""), reverse=largest)
    return [*having, *(row for row in found if _sortable(row, name) is None)]


def figure_names(found: Sequence[Row]) -> list[str]:
    """Every figure that some row has, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in found for name in row.figures))


def _row(trial: Trial) -> Row:
    outcome = trial.outcome
    return Row(
        settings=dict(_pair(setting) for setting in trial.settings),
        state=trial.state,
        runs=[trial.run],
        seconds=outcome.get("seconds"),
        figures=_figures(RunFolder(runs_dir() / trial.run)) if outcome.get("state") == "done" else {},
        errors={},
        error=str(outcome.get("error", "")),
    )


def _figures(run: RunFolder) -> dict[str, float]:
    """The figures of a run's last stage that measured any. A run that was removed has none."""
    try:
        found: Mapping[str, Mapping[str, Any]] = summary(run)["figures"]
    except (InputError, OSError):
        return {}
    return {name: float(figure["value"]) for name, figure in found.items() if figure.get("value") is not None}


def _mean(settings: Mapping[str, str], group: Sequence[Row]) -> Row:
    names = [name for name in figure_names(group) if all(name in row.figures for row in group)]
    values = {name: [row.figures[name] for row in group] for name in names}
    return Row(
        settings=settings,
        state=f"{len(group)} seeds" if len(group) > 1 else "1 seed",
        runs=[run for row in group for run in row.runs],
        seconds=sum(row.seconds or 0.0 for row in group),
        figures={name: statistics.fmean(its) for name, its in values.items()},
        errors={name: statistics.stdev(its) / math.sqrt(len(its)) for name, its in values.items() if len(its) > 1},
    )


def _sortable(row: Row, name: str) -> tuple[int, float, str] | None:
    """Numbers before words."""
    if name in row.figures:
        return (0, row.figures[name], "")
    if name not in row.settings:
        return None
    try:
        return (0, float(row.settings[name]), "")
    except ValueError:
        return (1, 0.0, row.settings[name])


def _pair(setting: str) -> tuple[str, str]:
    key, _, value = setting.partition("=")
    return key, value
