"""Runs side by side: columns by key path or figure, filtered, sorted, averaged over seeds.

In: runs, and what the command line asks for. Out: titles, and rows of cells. A column is a key of the runs' recipes
(`stages.base.model.depth`) or a figure of a stage (`base.bpb.bpb`), written out or with parts left out where that is
clear (`model.depth`, `base.bpb`). `STAGE.loss` is the last of the training.
"""

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from nanochat.errors import wrong_input
from nanochat.recipe.notation import value_text
from nanochat.running.figures import finished_stages
from nanochat.running.json_file import read_lines
from nanochat.running.run_folder import RunFolder
from nanochat.running.store import METRICS
from nanochat.sweeping.columns import resolved, shortest
from nanochat.sweeping.results import Row, figure_names, main_figure, over_seeds, result_names, sorted_by

RUN, STATE = "run", "state"
_TRAINING = ("loss", "smoothed_loss")
_TESTS: Mapping[str, Callable[[Any, Any], bool]] = {
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    "=": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_MOST_VALUES = 8
"""Of a column that are named."""
_ORDERINGS = (">=", "<=", ">", "<")
_MOST_COLUMNS = 12
"""Of those that nobody asked for."""


@attrs.frozen(kw_only=True)
class Wanted:
    """What the command line asks for."""

    columns: Sequence[str] = ()
    sort: str | None = None
    where: Sequence[str] = ()
    over: str | None = None

    @property
    def anything(self) -> bool:
        """Whether it asks for any of this."""
        return bool(self.columns or self.sort or self.where or self.over)


def compared(runs: Sequence[tuple[RunFolder, str]], wanted: Wanted) -> list[Row]:
    """A row for each run and its state, newest first, or for all that differ in the key `over` alone."""
    found = [_row(run, state) for run, state in runs]
    conditions = [_condition(text, found) for text in wanted.where]
    found = [row for row in found if all(holds(row) for holds in conditions)]
    if not found:
        return []
    if wanted.over is not None:
        key = resolved(wanted.over, _keys(found), "--over")
        done = [attrs.evolve(row, settings=_identity(row.settings), state="done") for row in found if _whole(row)]
        found = over_seeds(done, key)
    if wanted.sort is not None:
        name = wanted.sort.removeprefix("-")
        column = resolved(name, _columns(found), "--sort")
        found = sorted_by(found, column if name == wanted.sort else f"-{column}")
    return found


def titles(found: Sequence[Row], wanted: Wanted) -> list[str]:
    """The columns that are shown: those asked for; else the keys in which the runs differ, and their figures."""
    if wanted.columns:
        return [resolved(column, _columns(found), "--columns") for column in wanted.columns]
    return _all_titles(found, wanted)[:_MOST_COLUMNS]


def left_out(found: Sequence[Row], wanted: Wanted) -> int:
    """How many columns there are beyond those that are shown without being asked for."""
    return 0 if wanted.columns else max(0, len(_all_titles(found, wanted)) - _MOST_COLUMNS)


def _all_titles(found: Sequence[Row], wanted: Wanted) -> list[str]:
    """The keys in which they differ, and all figures; where these are too many, what they are sorted by and what runs
    are compared by before anything else come first.
    """
    figures = figure_names(found)
    differing = [key for key in _keys(found) if key != RUN and len({row.settings.get(key) for row in found}) > 1]
    if len(differing) + len(figures) <= _MOST_COLUMNS:
        return [*differing, *figures]
    asked = wanted.sort.removeprefix("-") if wanted.sort else None
    first = [resolved(asked, _columns(found), "--sort")] if asked else []
    varying = [name for name in figures if len({row.figures.get(name) for row in found}) > 1]
    of_stage: dict[str, str] = {}
    for name in varying:  # of several stages the first
        of_stage.setdefault(name.partition(".")[2], name)
    main = main_figure(list(of_stage))
    first += [of_stage[main]] if main is not None else []
    return list(dict.fromkeys([*first, *differing, *figures]))


def heads(columns: Sequence[str], wanted: Wanted) -> list[str]:
    """What stands above them: as they were asked for; else as short as tells them apart."""
    return list(wanted.columns) or [shortest(column, columns) for column in columns]


def cells(row: Row, columns: Sequence[str]) -> list[str]:
    """A row's texts: the run, or how many runs; the state; the columns."""
    own = row.runs[0] if len(row.runs) == 1 else f"{len(row.runs)} runs"
    return [own, row.state, *(row.settings.get(column) or row.text(column) for column in columns)]


def plain(row: Row, columns: Sequence[str]) -> dict[str, Any]:
    """The same for programs: errors beside the figures' names."""
    return {
        "runs": list(row.runs),
        "state": row.state,
        **{column: row.settings.get(column, row.figures.get(column)) for column in columns},
        "standard_errors": {column: row.errors[column] for column in columns if column in row.errors},
    }


def _row(run: RunFolder, state: str) -> Row:
    figures: dict[str, float] = {}
    for stage in finished_stages(run):
        figures |= {
            f"{stage.name}.{name}": float(figure["value"])
            for name, figure in stage.figures.items()
            if isinstance(figure.get("value"), int | float)
        }
    for planned in run.stages:
        figures |= {f"{planned.name}.{name}": value for name, value in _last(planned.folder.path / METRICS).items()}
    recipe = {name: value for name, value in run.lock.items() if name != "lock"}  # not what the lock says of itself
    settings = {RUN: run.path.name, STATE: state, **dict(_flat(recipe))}
    return Row(
        settings=settings,
        state=state,
        runs=[run.path.name],
        seconds=None,
        figures=figures,
        errors={},
        results=result_names(run),
    )


def _flat(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """stages.base.model.depth → "4", of every value."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value if isinstance(value, str) else value_text(value)


def _last(metrics: Any) -> dict[str, float]:
    """The last figures of a training."""
    last: Mapping[str, Any] = {}
    for line in read_lines(metrics):
        last = line if line.get("loss") is not None else last
    return {name: float(last[name]) for name in _TRAINING if isinstance(last.get(name), int | float)}


def _whole(row: Row) -> bool:
    return row.state == "finished"


def _identity(settings: Mapping[str, str]) -> dict[str, str]:
    """What decides a run's results: its stages and its seed, without the hardware."""
    return {
        key: value
        for key, value in settings.items()
        if key == "seed" or (key.startswith("stages.") and key.split(".")[2:3] != ["hardware"])
    }


def _keys(found: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in found for key in row.settings))


def _columns(found: Sequence[Row]) -> list[str]:
    return [*_keys(found), *figure_names(found)]


def _condition(text: str, found: Sequence[Row]) -> Callable[[Row], bool]:
    """What `KEY=VALUE` says of a row. InputError E407 where it says nothing.

    Numbers are compared as numbers: of a column in which some run has one, what is none is neither above nor below.
    """
    parts = re.fullmatch(r"(.+?)(!=|>=|<=|=|>|<)(.*)", text)
    if parts is None:
        raise wrong_input("E407", f"--where {text}: that is no condition", help="for example --where seed=1")
    name, test, wanted = resolved(parts[1].strip(), _columns(found), "--where"), _TESTS[parts[2]], parts[3].strip()
    number, numbers = _number(wanted), [_number(_value(row, name)) for row in found]
    ordered = parts[2] in _ORDERINGS and any(one is not None for one in numbers)
    if ordered and number is None:
        told = [f"{one:g}" for one in dict.fromkeys(numbers) if one is not None]
        message = f"--where {text}: `{wanted}` is no number, and `{name}` is one"
        shown = ", ".join(told[:_MOST_VALUES]) + (", …" if len(told) > _MOST_VALUES else "")
        raise wrong_input("E407", message, help=f"its values are {shown}")

    def holds(row: Row) -> bool:
        value = _value(row, name)
        if value is None:
            return False
        its = _number(value)
        if its is not None and number is not None:
            return test(its, number)
        return not ordered and test(str(value), wanted)

    return holds


def _value(row: Row, name: str) -> str | float | None:
    return row.settings.get(name, row.figures.get(name))


def _number(value: str | float | None) -> float | None:
    """A number that compares with others; None of words and of NaN."""
    try:
        found = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return None if math.isnan(found) else found
