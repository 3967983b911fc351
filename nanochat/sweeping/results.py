"""What came out of a sweep: every trial's figures, their means over the seeds of trials that are else alike, and what
sets these apart from one of them, seed by seed.

In: a sweep. Out: rows of plain data. The standard error is that of the mean over seeds, s / √n with n − 1 in s; a
figure's own error, of one measurement, is not in it. One seed has none. A difference is that of two trials with one
seed: what the seed does to both cancels.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from nanochat.errors import InputError, did_you_mean, wrong_input
from nanochat.home import runs_dir
from nanochat.running.figures import measured_text
from nanochat.running.run_folder import RunFolder
from nanochat.running.summary import summary
from nanochat.sweeping.axes import SEED
from nanochat.sweeping.student import half_width
from nanochat.sweeping.sweep import Sweep, Trial


@attrs.frozen(kw_only=True)
class Difference:
    """A figure's difference from another row's, over the seeds that both have."""

    mean: float
    half: float | None
    """Half the width of its interval by Student's t, at 95 %; None of one seed."""
    n: int


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
    differences: Mapping[str, Difference] = attrs.field(factory=dict)
    """Figure → difference from the row that it is compared with."""

    def text(self, figure: str) -> str:
        """A figure with its error, `1.234 ± 0.01`; nothing where there is none."""
        value = self.figures.get(figure)
        return "" if value is None else measured_text(figure, value, self.errors.get(figure))


def rows(sweep: Sweep) -> list[Row]:
    """One row a trial, in the sweep's order."""
    return [row_of(trial) for trial in sweep.trials()]


def over_seeds(found: Sequence[Row], key: str = SEED) -> list[Row]:
    """One row for all trials that differ in the seed alone, or in another key; of those that are done."""
    groups: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    for row in found:
        if row.state == "done":
            groups.setdefault(tuple(_but(row.settings, key).items()), []).append(row)
    return [_mean(dict(alike), group) for alike, group in groups.items()]


def compared(found: Sequence[Row], reference: tuple[str, str]) -> list[Row]:
    """Means over seeds, with their differences from the row that has this value of this key and is else alike."""
    key, value = reference
    done = [row for row in found if row.state == "done"]
    singly = {tuple(row.settings.items()): row for row in done}

    def pairs(mean: Row) -> Iterator[tuple[Row, Row]]:
        for row in done:
            if _but(row.settings, SEED) == dict(mean.settings) and row.settings.get(key) != value:
                other = singly.get(tuple((name, value if name == key else its) for name, its in row.settings.items()))
                if other is not None:
                    yield row, other

    return [attrs.evolve(mean, differences=_differences(list(pairs(mean)))) for mean in over_seeds(found)]


def find_reference(found: Sequence[Row], text: str) -> tuple[str, str]:
    """What `KEY=VALUE`, or a value alone, names. InputError E407 where no row or more than one key has it."""
    known = dict.fromkeys(pair for row in found for pair in row.settings.items() if pair[0] != SEED)
    meant = [(key, value) for key, value in known if text in (value, f"{key}={value}")]
    if len(meant) != 1:
        names = [f"{key}={value}" for key, value in meant or known]
        near = did_you_mean(text, [value for _, value in known]) if not meant else ""
        said = "more than one key has this value" if meant else "no trial has this value"
        raise wrong_input("E407", f"--against {text}: {said}", help=near or f"there are {', '.join(names) or 'none'}")
    return meant[0]


def sorted_by(found: Sequence[Row], column: str) -> list[Row]:
    """By a figure or a key, the least first; `-COLUMN` the largest first. Rows without it come last."""
    name, largest = column.removeprefix("-"), column.startswith("-")
    having = [row for row in found if _sortable(row, name) is not None]
    having.sort(key=lambda row: _sortable(row, name) or (0, 0.0, ""), reverse=largest)
    return [*having, *(row for row in found if _sortable(row, name) is None)]


def figure_names(found: Sequence[Row]) -> list[str]:
    """Every figure that some row has, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in found for name in row.figures))


def main_figure(names: Sequence[str]) -> str | None:
    """bpb before anything else, since lower losses are what small models differ in."""
    whole = [name for name in names if name.endswith(".bpb") and name.count(".") == 1]
    return next(iter([*whole, *names]), None)


def best(found: Sequence[Row]) -> tuple[str, Row] | None:
    """A figure, and the mean over seeds that is the best by it: the main one, else the first that has a better end."""
    means = over_seeds(found)
    names = figure_names(means)
    directed = [name for name in [main_figure(names) or "", *names] if _better(name)]
    if not directed:
        return None
    figure = directed[0]
    having = [row for row in means if math.isfinite(row.figures.get(figure, math.nan))]
    return (figure, max(having, key=lambda row: _better(figure) * row.figures[figure])) if having else None


def row_of(trial: Trial) -> Row:
    """A trial as it is now."""
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


def _better(figure: str) -> int:
    """1 where more of a figure is better, -1 where less is; 0 where that is not known of figures so called."""
    last = figure.rpartition(".")[2]
    if last in ("bpb", "loss"):
        return -1
    return int(last.startswith(("accuracy", "pass@")) or last in ("core", "chatcore", "reward"))


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


def _differences(pairs: Sequence[tuple[Row, Row]]) -> dict[str, Difference]:
    """Of the figures that all pairs have."""
    found = {}
    for name in figure_names([row for row, _ in pairs]):
        if all(name in row.figures and name in other.figures for row, other in pairs):
            values = [row.figures[name] - other.figures[name] for row, other in pairs]
            found[name] = Difference(mean=statistics.fmean(values), half=half_width(values), n=len(values))
    return found


def _but(settings: Mapping[str, str], key: str) -> dict[str, str]:
    return {name: value for name, value in settings.items() if name != key}


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
