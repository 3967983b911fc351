"""What came out of a sweep: every trial's figures, their means over the seeds of trials that are else alike, and what
sets these apart from one of them, seed by seed.

In: a sweep. Out: rows of plain data. The standard error is that of the mean over seeds, s / √n with n − 1 in s; a
figure's own error, of one measurement, is not in it. One seed has none, and n counts a seed, or a result, once however
many trials have it. A difference is that of two trials with one seed: what the seed does to both cancels.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from nanochat.errors import InputError, did_you_mean, wrong_input
from nanochat.home import runs_dir
from nanochat.running.figures import finished_stages, measured_text, seconds_by_stage
from nanochat.running.run_folder import RunFolder
from nanochat.running.summary import summary
from nanochat.sweeping.axes import SEED
from nanochat.sweeping.columns import matching
from nanochat.sweeping.student import half_width
from nanochat.sweeping.sweep import Sweep, Trial, removed_in_words


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
    """Wall time of its stages, whichever trial or run made them."""
    figures: Mapping[str, float]
    errors: Mapping[str, float]
    """Figure → standard error of its mean over seeds."""
    error: str = ""
    differences: Mapping[str, Difference] = attrs.field(factory=dict)
    """Figure → difference from the row that it is compared with."""
    results: Sequence[str] = ()
    """The folders of its finished stages: two trials with the same ones are one measurement."""
    seconds_by_stage: Mapping[str, float] = attrs.field(factory=dict)
    """The same for the folder of each stage: what trials have in common took its time once."""
    removed: Sequence[str] = ()
    """Those of its runs that are gone: their figures are in no mean."""

    @property
    def standing(self) -> str:
        """Its state in words."""
        if self.state == "done" and self.removed:
            return "done; its run was removed"
        return self.state

    def of_figures(self, names: Sequence[str]) -> "Row":
        """With these figures alone, as far as it has them."""
        kept: list[dict[str, Any]] = [
            {name: held[name] for name in names if name in held}
            for held in (self.figures, self.errors, self.differences)
        ]
        return attrs.evolve(self, figures=kept[0], errors=kept[1], differences=kept[2])

    def text(self, figure: str) -> str:
        """A figure with its error, `1.234 ± 0.01`; nothing where there is none."""
        value = self.figures.get(figure)
        return "" if value is None else measured_text(figure, value, self.errors.get(figure))


def rows(sweep: Sweep) -> list[Row]:
    """One row a trial, in the sweep's order."""
    return [row_of(trial) for trial in sweep.trials()]


def total_seconds(found: Sequence[Row]) -> float:
    """Wall time of all their stages, of each once."""
    singly = {stage: seconds for row in found for stage, seconds in row.seconds_by_stage.items()}
    return sum(singly.values()) + sum(row.seconds or 0.0 for row in found if not row.seconds_by_stage)


def over_seeds(found: Sequence[Row], key: str = SEED) -> list[Row]:
    """One row for all trials that differ in the seed alone, or in another key; of those that are done."""
    return [_mean(group, key) for group in _groups(found, key)]


def compared(found: Sequence[Row], reference: tuple[str, str]) -> list[Row]:
    """Means over seeds, with their differences from the row that has this value of this key and is else alike."""
    key, value = reference
    groups = _groups(found, SEED)
    singly = {frozenset(row.settings.items()): row for group in groups for row in _measured(group, SEED)}

    def pairs(group: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
        for row in _measured(group, SEED):
            other = singly.get(frozenset({**row.settings, key: value}.items()))
            if other is not None and row.settings.get(key) != value:
                yield row, other

    return [attrs.evolve(_mean(group, SEED), differences=_differences(list(pairs(group)))) for group in groups]


def find_reference(found: Sequence[Row], text: str) -> tuple[str, str]:
    """What `KEY=VALUE`, or a value alone, names. InputError E407 where no row or more than one key has it.

    Of the key, parts may be left out, as in the names of columns.
    """
    known = dict.fromkeys(pair for row in found for pair in row.settings.items() if pair[0] != SEED)
    meant = [(key, value) for key, value in known if text in (value, f"{key}={value}")]
    if not meant and "=" in text:
        name, _, wanted = text.partition("=")
        keys = matching(name, (key for key, _ in known))
        meant = [(key, value) for key, value in known if key in keys and value == wanted]
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
    """A figure, and the mean over seeds that is the best by it: the main one, else the first that has a better end.

    Of the variants with the most seeds: one lucky seed is not better than a mean of three.
    """
    means = over_seeds(found)
    names = figure_names(means)
    directed = [name for name in [main_figure(names) or "", *names] if _better(name)]
    if not directed:
        return None
    figure = directed[0]
    finite = [row for row in means if math.isfinite(row.figures.get(figure, math.nan))]
    having = [row for row in finite if len(row.runs) == max(len(other.runs) for other in finite)]
    return (figure, max(having, key=lambda row: _better(figure) * row.figures[figure])) if having else None


def row_of(trial: Trial) -> Row:
    """A trial as it is now."""
    outcome, run = trial.outcome, RunFolder(runs_dir() / trial.run)
    done, removed = outcome.get("state") == "done", trial.is_removed
    spent = seconds_by_stage(run) if outcome else {}
    return Row(
        settings=dict(_pair(setting) for setting in trial.settings),
        state=trial.state,
        runs=[trial.run],
        seconds=sum(spent.values()) if spent else outcome.get("seconds"),
        figures=_figures(run) if done else {},
        errors={},
        error=str(outcome.get("error", "")),
        results=result_names(run) if done else [],
        seconds_by_stage=spent,
        removed=[trial.run] if removed else [],
    )


def result_names(run: RunFolder) -> list[str]:
    """The folders of a run's finished stages."""
    return [stage.folder.path.name for stage in finished_stages(run)]


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


def _groups(found: Sequence[Row], key: str) -> list[list[Row]]:
    """The rows that are done, together with those that differ in this key alone."""
    groups: dict[frozenset[tuple[str, str]], list[Row]] = {}
    for row in found:
        if row.state == "done":
            groups.setdefault(frozenset(_but(row.settings, key).items()), []).append(row)
    return list(groups.values())


def _measured(group: Sequence[Row], key: str) -> list[Row]:
    """The first row of each value of the key, and of each result, of those whose runs are there."""
    counted, seen = list[Row](), set[object]()
    for row in group:
        these = {row.settings.get(key), *([tuple(row.results)] if row.results else [])}
        if not row.removed and not these & seen:
            seen |= these
            counted.append(row)
    return counted


def _mean(group: Sequence[Row], key: str) -> Row:
    counted, there = _measured(group, key), {row.settings.get(key) for row in group if not row.removed}
    gone = {row.settings.get(key): row for row in group if row.removed and row.settings.get(key) not in there}
    names = [name for name in figure_names(counted) if all(name in row.figures for row in counted)]
    values = {name: [row.figures[name] for row in counted] for name in names}
    return Row(
        settings=_but(group[0].settings, key),
        state=_counted(len(counted), len(gone), key),
        runs=[run for row in counted for run in row.runs],
        seconds=total_seconds(counted),
        figures={name: statistics.fmean(its) for name, its in values.items()},
        errors={name: statistics.stdev(its) / math.sqrt(len(its)) for name, its in values.items() if len(its) > 1},
        seconds_by_stage={stage: seconds for row in counted for stage, seconds in row.seconds_by_stage.items()},
        removed=[run for row in gone.values() for run in row.runs],
    )


def _counted(there: int, gone: int, key: str) -> str:
    """3 seeds · 1 of 2 seeds; 1 run was removed · 3 values of depth"""
    whole = there + gone
    what = f"seed{'s' * (whole != 1)}" if key == SEED else f"value{'s' * (whole != 1)} of {key.rpartition('.')[2]}"
    if not gone:
        return f"{whole} {what}"
    return f"{there} of {whole} {what}; {removed_in_words(gone)}"


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
