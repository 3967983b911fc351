"""Plots: curves, points with errors and fitted lines → an SVG that stands in a page and takes the page's colours.

In: series of numbers and what the axes are called. Out: one `<svg>` element, the same text for the same numbers. On a
page of its own it has colours of its own, by light or dark; a page that sets `--plot-…` chooses them. Matplotlib is
imported where the first plot is drawn: whoever draws none does not wait for it.
"""

import io
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import attrs

from nanochat.reporting.svg import GRID, PAPER, SERIES_COLOURS, TEXT, finished

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 4.8, 3.2
"""Inches, of 72 points: a text of 10 points is still read on a phone, where the plot fills the width."""
FONT_POINTS = 10.5
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
"""So that colour is never the only sign of a series."""
MARKERS = ("o", "s", "^", "D", "v", "P")
_LEGEND_CHARACTERS = 58
"""That fit side by side above a plot."""
_LONGEST_LABEL = 46
"""Characters of a name in a legend; of a longer one the middle is left out, so that both ends still tell it apart."""
_LEGEND_ROW = 0.235
"""Inches that the plot grows by for each further row of its legend."""
_BESIDE = 16
"""Characters of a name that still stands beside its interval; longer ones stand above theirs."""
Scale = Literal["linear", "log"]


@attrs.frozen(kw_only=True)
class Series:
    """Points that belong together."""

    x: Sequence[float]
    y: Sequence[float]
    label: str = ""
    """In the legend; empty: not there."""
    style: Literal["line", "points", "both"] = "line"
    errors: Sequence[float | tuple[float, float]] = ()
    """Of each point: how far its bar goes down and up; one number where both are alike. Empty: no bars."""
    band: tuple[Sequence[float], Sequence[float]] | None = None
    """Lower and upper ends of a shaded band along x: the interval of a fitted line, say."""
    dashed: bool = False
    faint: bool = False
    """Drawn thin and pale, behind the others: single runs behind their mean."""
    colour: int | None = None
    """The number of its colour; None: the next one. Two series of one colour belong together."""


@attrs.frozen(kw_only=True)
class Plot:
    """What is drawn."""

    title: str
    """What a reader who sees no picture is told: "loss against tokens"."""
    series: Sequence[Series]
    x_label: str
    y_label: str
    x_scale: Scale = "linear"
    y_scale: Scale = "linear"
    y_from_zero: bool = False
    """A rate that varies by a hundredth is then a level line."""
    x_range: tuple[float, float] | None = None
    """What is shown of an axis; None: all that is drawn."""
    y_range: tuple[float, float] | None = None
    marks: Sequence[tuple[float, str]] = ()
    """Upright lines: where on x, and what they say."""
    width: float = WIDTH
    height: float = HEIGHT


@attrs.frozen(kw_only=True)
class Interval:
    """One row of a plot of intervals."""

    label: str
    value: float
    low: float
    high: float


def draw(plot: Plot) -> str:
    """The plot as an `<svg>` element. What is not finite, or not above 0 on a log axis, is a gap.

    A legend of several rows takes no room from the curves: the plot is higher by it.
    """
    labels = [_short(series.label) for series in plot.series if series.label]
    columns = _legend_columns(labels)
    figure, axes = _canvas(plot.width, plot.height + _LEGEND_ROW * max(0, math.ceil(len(labels) / columns) - 1))
    axes.set_xscale(plot.x_scale)
    axes.set_yscale(plot.y_scale)
    for number, series in enumerate(plot.series):
        _draw_series(axes, series, number if series.colour is None else series.colour, plot)
    for place, text in plot.marks:
        axes.axvline(place, color=TEXT, linewidth=0.8, linestyle=DASHES[2])
        axes.annotate(
            _plain(text),
            (place, 1),
            (3, -3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            color=TEXT,
        )
    if plot.y_from_zero:
        axes.set_ylim(bottom=0)
    for limits, put in ((plot.x_range, axes.set_xlim), (plot.y_range, axes.set_ylim)):
        if limits is not None:
            put(*limits)
    axes.set_xlabel(_plain(plot.x_label))
    axes.set_ylabel(_plain(plot.y_label))
    _label_ticks(axes, plot)
    if labels and axes.get_legend_handles_labels()[0]:
        _legend(axes, columns)
    return _svg(figure, plot.title)


def draw_intervals(title: str, rows: Sequence[Interval], x_label: str, *, zero: bool = False) -> str:
    """A row for each: its value as a point, its interval as a line. zero: with a line at 0, to read differences.

    Where a name is long, all stand above their intervals, so that these keep the width.
    """
    above = max((len(row.label) for row in rows), default=0) > _BESIDE
    figure, axes = _canvas(WIDTH, 0.9 + (0.46 if above else 0.34) * max(2, len(rows)))
    if zero:
        axes.axvline(0, color=TEXT, linewidth=0.9, linestyle=DASHES[1])
    for place, row in enumerate(rows):
        axes.plot([row.low, row.high], [place, place], color=SERIES_COLOURS[0], linewidth=2.2, solid_capstyle="round")
        axes.plot([row.value], [place], color=SERIES_COLOURS[0], marker="o", markersize=6)
        if above:
            text = axes.text(
                0,
                place - 0.28,
                _plain(_short(row.label)),
                transform=axes.get_yaxis_transform(),  # x in shares of the width
                va="center",
                color=TEXT,
                fontsize=FONT_POINTS,
            )
            text.set_in_layout(False)  # it stands over the axes, and must not push them aside
    axes.set_yticks([] if above else range(len(rows)), [] if above else [_plain(row.label) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.6 if above else -0.5)
    axes.set_xlabel(_plain(x_label))
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    return _svg(figure, title)


def _canvas(width: float, height: float) -> "tuple[Figure, Axes]":
    """An empty figure: matplotlib's own objects, no global state, so that any thread may draw."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    axes.grid(visible=True, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", color=GRID, labelcolor=TEXT, labelsize=FONT_POINTS)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=TEXT, fontsize=FONT_POINTS)
    return figure, axes


def _draw_series(axes: "Axes", series: Series, number: int, plot: Plot) -> None:
    colour = SERIES_COLOURS[number % len(SERIES_COLOURS)]
    kept = [i for i in range(len(series.x)) if _shown(series.x[i], plot.x_scale) and _shown(series.y[i], plot.y_scale)]
    if not kept:
        return
    x, y = [float(series.x[i]) for i in kept], [float(series.y[i]) for i in kept]
    # A single point makes no line.
    points = series.style != "line" or len(kept) == 1
    if series.band is not None:
        low, high = ([float(side[i]) for i in kept] for side in series.band)
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    if series.errors:
        pairs = [series.errors[i] for i in kept]
        both = [pair if isinstance(pair, tuple) else (pair, pair) for pair in pairs]
        axes.errorbar(
            x,
            y,
            [[low for low, _ in both], [high for _, high in both]],
            fmt="none",
            ecolor=colour,
            elinewidth=1.2,
            capsize=2.5,
        )
    axes.plot(
        x,
        y,
        color=colour,
        label=_plain(_short(series.label)) if series.label else "_nolegend_",
        linestyle=_line(series, number),
        linewidth=0.8 if series.faint else 1.7,
        alpha=0.45 if series.faint else 1,
        marker=MARKERS[number % len(MARKERS)] if points else "",
        markersize=3 if series.faint else 5,
        markeredgecolor=PAPER,
        markeredgewidth=0.6,
        zorder=2 if series.faint else 3,
        gid=f"series-{number}",
    )


def _line(series: Series, number: int) -> Any:
    if series.style == "points":
        return "none"
    return DASHES[1] if series.dashed else DASHES[(number // len(SERIES_COLOURS)) % len(DASHES)]


def _shown(value: float, scale: Scale) -> bool:
    return value is not None and math.isfinite(value) and (scale == "linear" or value > 0)


def _label_ticks(axes: "Axes", plot: Plot) -> None:
    """1 k, 2 M: as quantities are written everywhere else."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    for axis, scale in ((axes.xaxis, plot.x_scale), (axes.yaxis, plot.y_scale)):
        low, high = sorted(axis.get_view_interval())
        if scale == "linear":
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        elif low > 0 and high / low < 100:
            # Over less than two decades powers of ten alone leave an axis without numbers.
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low > 6 else (1, 1.5, 2, 3, 4, 5, 6, 8)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
        axis.set_minor_formatter(NullFormatter())


def tick(value: float) -> str:
    """A number at an axis: 0.002, 25, 40 k, 1.5 P; beyond the prefixes a power of ten."""
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e18:
        return f"{value:.3g}".replace("e-0", "e-").replace("e+", "e")
    power = min(5, max(0, math.floor(math.log10(size) + 1e-9) // 3)) if size >= 1e4 else 0
    text = f"{value / 1000**power:.6g}"
    return f"{text} {('', 'k', 'M', 'G', 'T', 'P')[power]}".rstrip()


def _legend_columns(labels: Sequence[str]) -> int:
    """How many names stand side by side."""
    longest = max(map(len, labels), default=0)
    return max(1, min(len(labels), _LEGEND_CHARACTERS // (longest + 6)))


def _legend(axes: "Axes", columns: int) -> None:
    """Above the plot, where it hides no point."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=FONT_POINTS,
        labelcolor=TEXT,
        handlelength=1.6,
        columnspacing=1.2,
        borderaxespad=0.2,
    )


def _short(label: str) -> str:
    """A name that is too long for a legend, without its middle."""
    half = (_LONGEST_LABEL - 1) // 2
    return label if len(label) <= _LONGEST_LABEL else f"{label[:half]}…{label[-half:]}"


def _plain(text: str) -> str:
    """Text without a meaning: matplotlib takes what stands between two dollars for a formula, and hides a label
    that begins with an underscore; a space of no width before it keeps it."""
    return ("\N{ZERO WIDTH SPACE}" if text.startswith("_") else "") + text.replace("$", "\\$")


def _svg(figure: "Figure", title: str) -> str:
    from matplotlib import rc_context

    written = io.StringIO()
    # Text stays text: it takes the page's font, can be found and copied, and is small.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the page has a font for it
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return finished(written.getvalue(), title)
