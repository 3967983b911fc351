"""Figures of a sweep along its numbers: a line for each way, a table and a plot for each axis and figure.

In: the trials that are done. Out: blocks. An axis is a key whose values are numbers, or what names of variants end in:
`galore, k = 8` is the place 8 on the axis k of the way `galore`. Ways that lack it are drawn level, to compare with.
Seeds are averaged; bars are intervals of 95 % by Student's t. Not here: which figures are of interest.
"""

import math
import re
import statistics
from collections.abc import Mapping, Sequence

import attrs

from nanochat.recipe.sweep_table import VARIANT
from nanochat.reporting.document import Block, Picture, Pictures, Table, Text
from nanochat.reporting.plot import Plot, Series, draw
from nanochat.running.figures import measured_text
from nanochat.sweeping.axes import SEED
from nanochat.sweeping.results import Row
from nanochat.sweeping.results_text import variant_name
from nanochat.sweeping.student import half_width

MOST_LINES = 10
"""That are told apart in one plot; of an axis with more there is none."""
_PLACED = re.compile(r"(?P<way>.+), (?P<axis>[^,=]+?) = (?P<number>[-+0-9.e]+)\Z")
_WIDE = 8.0
"""The largest place over the least, from which an axis is logarithmic."""


@attrs.frozen(kw_only=True)
class Line:
    """One way along an axis."""

    name: str
    places: Mapping[float, Sequence[float]]
    """Place → the figure of each seed."""
    level: Sequence[float] = ()
    """The figure of each seed of a way that lacks the axis."""


def line_blocks(done: Sequence[Row], figures: Sequence[str]) -> list[Block]:
    """A table and a plot for each axis and each of the figures; none where nothing is a line."""
    placed = [(row, _coordinates(row)) for row in done]
    names = dict.fromkeys(name for _, coordinates in placed for name in coordinates)
    blocks: list[Block] = []
    for axis in (name for name in names if _is_axis([its[name] for _, its in placed if name in its])):
        for figure in figures:
            found = lines(placed, axis, figure)
            if any(len(line.places) > 1 for line in found) and len(found) <= MOST_LINES:
                title = f"{figure} against {_short(axis)}"
                blocks += [_table(found, axis, figure), Pictures(pictures=[_picture(found, axis, figure, title)])]
    note = "Means over seeds, ± half their 95 % interval (Student's t); a single seed has none."
    return [Text(text=note), *blocks] if blocks else []


def lines(placed: Sequence[tuple[Row, Mapping[str, str]]], axis: str, figure: str) -> list[Line]:
    """The ways that have the figure, in the order of their first trials. placed: rows with what sets them apart."""
    found: dict[str, tuple[dict[float, list[float]], list[float]]] = {}
    for row, coordinates in placed:
        if figure in row.figures:
            others = {key: value for key, value in coordinates.items() if key != axis}
            places, level = found.setdefault(variant_name(others), ({}, []))
            here = places.setdefault(float(coordinates[axis]), []) if axis in coordinates else level
            here.append(row.figures[figure])
    return [
        Line(name=name, places=dict(sorted(places.items())), level=level) for name, (places, level) in found.items()
    ]


def _short(axis: str) -> str:
    """The key without the tables that it stands in."""
    return axis.rpartition(".")[2]


def _coordinates(row: Row) -> dict[str, str]:
    """What sets a trial apart but its seed, the number in a variant's name apart from the name."""
    found = {key: value for key, value in row.settings.items() if key != SEED}
    match = _PLACED.match(found.get(VARIANT, ""))
    return {**found, VARIANT: match["way"], match["axis"]: match["number"]} if match else found


def _is_axis(values: Sequence[str]) -> bool:
    numbers = [_number(value) for value in values]
    return None not in numbers and len(set(numbers)) > 1


def _number(text: str) -> float | None:
    try:
        value = float(text.replace("_", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _table(found: Sequence[Line], axis: str, figure: str) -> Table:
    """A row a line, a column a place; means ± half their interval."""
    places = sorted({place for line in found for place in line.places})
    levels = any(line.level for line in found)
    short = _short(axis)
    titles = [figure, *(f"{short} {place:,g}" for place in places), *([f"without {short}"] if levels else [])]
    rows = [
        [
            line.name,
            *(_cell(figure, line.places.get(place, ())) for place in places),
            *([_cell(figure, line.level)] if levels else []),
        ]
        for line in found
    ]
    return Table(titles=titles, rows=rows)


def _cell(figure: str, values: Sequence[float]) -> str:
    if not values:
        return ""
    mean, half = statistics.fmean(values), half_width(values)
    return measured_text(figure, mean, half)


def _picture(found: Sequence[Line], axis: str, figure: str, title: str) -> Picture:
    places = [place for line in found for place in line.places]
    low, high = min(places), max(places)
    series = [_series(line, i) if line.places else _level(line, low, high, i) for i, line in enumerate(found)]
    values = [y for one in series for y in one.y]
    plot = Plot(
        title=title,
        series=series,
        x_label=_short(axis),
        y_label=figure,
        x_scale="log" if low > 0 and high / low >= _WIDE else "linear",
        y_from_zero=min(values) > 0 and max(values) > 2 * min(values),
    )
    return Picture(svg=draw(plot), caption=title)


def _series(line: Line, colour: int) -> Series:
    halves = [half_width(values) for values in line.places.values()]
    return Series(
        x=list(line.places),
        y=[statistics.fmean(values) for values in line.places.values()],
        label=line.name,
        style="both",
        errors=[half or 0.0 for half in halves] if any(halves) else (),
        colour=colour,
    )


def _level(line: Line, low: float, high: float, colour: int) -> Series:
    mean, half = statistics.fmean(line.level), half_width(line.level)
    band = ([mean - half] * 2, [mean + half] * 2) if half else None
    return Series(x=[low, high], y=[mean] * 2, label=line.name, band=band, dashed=True, colour=colour)
