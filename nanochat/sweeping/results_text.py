"""Rows of a sweep as text: what a variant is called, which figures tell rows apart, and the table of all of them.

In: rows. Out: text, for the screen and for a report. Not here: what a figure was computed from.
"""

from collections.abc import Mapping, Sequence

import attrs

from nanochat.quantity import duration
from nanochat.running.figures import measured_text
from nanochat.sweeping.axes import SEED, in_short
from nanochat.sweeping.columns import shortest
from nanochat.sweeping.results import Row, figure_names
from nanochat.sweeping.sweep import STATES

MEANS_NOTE = "Means over seeds, ± the standard error of the mean (s / √n); a single seed has none."
DIFFERENCES_NOTE = (
    "Of differences, which are taken seed by seed, ± is half their 95 % interval (Student's t); a single seed has none."
)


@attrs.frozen(kw_only=True)
class RowsTable:
    """Cells under titles."""

    titles: Sequence[str]
    cells: Sequence[Sequence[str]]
    words: int
    """So many columns on the left are words; the others are numbers."""


def variant_name(settings: Mapping[str, str]) -> str:
    """`galore depth=4`: what sets a row apart but the seed; the variant as it is, other keys with their names."""
    return in_short((key, value) for key, value in settings.items() if key != SEED) or "all"


def told_apart(done: Sequence[Row]) -> tuple[list[str], dict[str, str]]:
    """The figures that are not the same in all rows, and of the others what all of them have.

    One row alone is not like any other: all of its figures are the first kind. How many steps all trials took is the
    second. A row whose run was removed has none.
    """
    differing, same = [], {}
    there = [row for row in done if not row.removed]
    for name in figure_names(there):
        values = {row.figures.get(name) for row in there}
        (value, *others) = values
        if len(there) < 2 or others or value is None:
            differing.append(name)
        else:
            same[name] = measured_text(name, value)
    return differing, same


def rows_table(found: Sequence[Row], figures: Sequence[str], *, against: str = "", runs: bool = False) -> RowsTable:
    """A row each: settings, state, figures, time, and the error where one failed.

    against: with the differences from the rows that this names. runs: with each row's first run.
    """
    keys = list(dict.fromkeys(key for row in found for key in row.settings))
    means = any(row.state not in STATES for row in found)
    failed = any(row.error for row in found)
    differences = [name for name in figures if against]
    cells = [
        [
            *(row.settings.get(key, "") for key in keys),
            row.standing,
            *(row.text(name) for name in figures),
            *(_difference(row, name) for name in differences),
            "" if row.seconds is None else duration(row.seconds),
            *([row.runs[0]] if runs else []),
            *([row.error.partition("\n")[0]] if failed else []),
        ]
        for row in found
    ]
    titles = [
        *(shortest(key, keys) for key in keys),
        "trials" if means else "state",
        *figures,
        *(f"{name} against {against}" for name in differences),
        "total time" if means else "time",
        *(["run"] if runs else []),
        *(["error"] if failed else []),
    ]
    return RowsTable(titles=titles, cells=cells, words=len(keys) + 1)


def _difference(row: Row, name: str) -> str:
    found = row.differences.get(name)
    if found is None:
        return ""
    return f"{'-' if found.mean < 0 else '+'}{measured_text(name, abs(found.mean), found.half)}"
