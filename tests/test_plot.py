"""Plots as SVG: the numbers are where the axes say, the colours are the page's, and no name can break out."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.reporting.plot import Interval, Plot, Scale, Series, draw, draw_intervals, tick
from nanochat.reporting.svg import standalone

SVG = "{http://www.w3.org/2000/svg}"


def plot(
    *series: Series, x_scale: Scale = "linear", y_scale: Scale = "linear", title: str = "loss against tokens"
) -> str:
    return draw(Plot(title=title, series=series, x_label="tokens", y_label="loss", x_scale=x_scale, y_scale=y_scale))


def line(svg: str, number: int = 0) -> np.ndarray:
    """The corners of a series' line, in the picture's points."""
    group = next(g for g in ElementTree.fromstring(svg).iter(f"{SVG}g") if g.get("id", "").endswith(f"series-{number}"))
    path = group.find(f"{SVG}path")
    assert path is not None
    return np.array([[float(x), float(y)] for x, y in re.findall(r"[ML] (\S+) (\S+)", path.get("d", ""))])


def texts(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def is_affine(numbers: Sequence[float], places: np.ndarray) -> bool:
    """Whether places follow from numbers by a factor and an offset."""
    fit = np.polyfit(np.array(numbers), places, 1)
    return bool(np.abs(np.polyval(fit, np.array(numbers)) - places).max() < 0.01)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_points_stand_where_the_axes_say_and_larger_is_higher(scale: Scale) -> None:
    x, y = [1e3, 4e3, 9e3, 2e4, 1e5], [7.0, 3.5, 3.9, 2.2, 1.1]
    corners = line(plot(Series(x=x, y=y), x_scale=scale, y_scale=scale))
    on_axis = np.log if scale == "log" else np.asarray
    assert is_affine(on_axis(x), corners[:, 0]) and is_affine(on_axis(y), corners[:, 1])
    assert corners[0, 0] < corners[-1, 0] and corners[0, 1] < corners[-1, 1]  # an SVG's y grows downwards


def test_what_is_no_number_is_a_gap_and_a_log_axis_leaves_out_what_it_cannot_show() -> None:
    x, y = [0.0, 10.0, 20.0, 30.0, 40.0], [5.0, float("nan"), 4.0, float("inf"), 3.0]
    assert len(line(plot(Series(x=x, y=y)))) == 3
    assert len(line(plot(Series(x=x, y=y), x_scale="log"))) == 2
    assert "nan" not in plot(Series(x=x, y=y))


def test_a_series_without_any_point_still_gives_axes() -> None:
    assert "tokens" in texts(plot(Series(x=[], y=[], label="nothing")))


def test_errors_are_bars_of_their_length() -> None:
    svg = plot(Series(x=[1, 2, 3], y=[2.0, 4.0, 6.0], errors=[1.0, (0.5, 1.5), 1.0], style="points"))
    root = ElementTree.fromstring(svg)
    bars = next(g for g in root.iter(f"{SVG}g") if "LineCollection" in g.get("id", ""))
    ends = [
        [float(number) for number in re.findall(r"[ML] \S+ (\S+)", path.get("d", ""))]
        for path in bars.iter(f"{SVG}path")
    ]
    lengths = [abs(low - high) for low, high in ends]
    assert lengths == pytest.approx([lengths[0]] * 3, abs=0.01)
    ticks = sorted(set(texts(svg)) & {"2", "4"})
    assert ticks == ["2", "4"]


LONG = [f"muon orthogonalization = {'newton_schulz' if i % 2 else 'polar_express'} {i}" for i in range(17)]


def places(svg: str) -> list[tuple[str, float, float]]:
    """Each text with the left end of its baseline."""
    found = []
    for element in ElementTree.fromstring(svg).iter(f"{SVG}text"):
        numbers = re.search(r"translate\((\S+) (\S+)\)", element.get("transform", ""))
        x, y = numbers.groups() if numbers else (element.get("x", "0"), element.get("y", "0"))
        found.append(("".join(element.itertext()), float(x), float(y)))
    return found


def extent(svg: str) -> tuple[float, float]:
    _, _, width, height = map(float, ElementTree.fromstring(svg).get("viewBox", "").split())
    return width, height


def test_a_legend_of_many_rows_makes_the_plot_higher_and_takes_nothing_from_the_curves() -> None:
    x, y = [0.0, 1.0, 2.0], np.array([3.0, 2.0, 1.0])
    few, many = (plot(*(Series(x=x, y=list(y + i), label=name) for i, name in enumerate(LONG[:n]))) for n in (1, 17))
    for svg in (few, many):
        width, height = extent(svg)
        legend = [found for found in places(svg) if found[0] in LONG]
        assert all(0 < at_y < height and at_x > 0 and at_x + 4 * len(text) < width for text, at_x, at_y in legend)
    assert len([found for found in places(many) if found[0] in LONG]) == 17
    heights = []
    for svg in (few, many):
        corners = line(svg)
        heights.append(extent(svg)[1] - max(found[2] for found in places(svg) if found[0] in LONG))
        assert corners[-1, 1] > corners[0, 1]
    assert heights[1] == pytest.approx(heights[0], rel=0.1), "what is below the legend is as high as before"


def test_a_name_longer_than_a_legend_keeps_both_its_ends() -> None:
    names = [f"{'a' * 60} {end}" for end in ("one", "two")]
    shown = [
        text for text in texts(plot(*(Series(x=[0, 1], y=[1, i], label=n) for i, n in enumerate(names)))) if "…" in text
    ]
    assert [text[-4:] for text in shown] == [" one", " two"] and all(text.startswith("aaa") for text in shown)


def test_long_names_stand_above_their_intervals_which_keep_the_width() -> None:
    rows = [Interval(label=name, value=float(i), low=i - 0.5, high=i + 0.5) for i, name in enumerate(LONG)]
    svg = draw_intervals("differences", rows, "bpb")
    width, height = extent(svg)
    named = [found for found in places(svg) if found[0] in LONG]
    assert len(named) == 17 and all(0 < y < height for _, _, y in named)
    first, last = line_ends(svg)
    assert last - first > 0.8 * width


def line_ends(svg: str) -> tuple[float, float]:
    """Least and greatest x of the drawn intervals."""
    paths = [path.get("d", "") for path in ElementTree.fromstring(svg).iter(f"{SVG}path")]
    spans = [
        [float(x) for x, _ in re.findall(r"[ML] (\S+) (\S+)", d)]
        for d in paths
        if re.fullmatch(r"\s*M \S+ \S+\s+L \S+ \S+\s*", d)
    ]
    wide = [(min(its), max(its)) for its in spans if len(its) == 2 and its[0] != its[1]]
    return min(low for low, _ in wide), max(high for _, high in wide)


NAMES = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=12).filter(str.strip)


@settings(max_examples=15, deadline=None)
@given(NAMES)
def test_any_name_is_text_and_nothing_else(name: str) -> None:
    svg = plot(Series(x=[1, 2], y=[1, 2], label=name), title=name)
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == name
    assert name in [text.removeprefix("\N{ZERO WIDTH SPACE}") for text in texts(svg)]


@pytest.mark.parametrize("name", ["$x$", "cost in $", "<script>alert(1)</script>", '"&quot;', "a_b^{c}", "\\alpha"])
def test_names_that_mean_something_elsewhere_are_shown_as_they_are(name: str) -> None:
    svg = plot(Series(x=[1, 2], y=[1, 2], label=name), title=name)
    assert name in texts(svg) and "<script" not in svg


def test_colours_are_the_pages_and_a_file_of_its_own_follows_light_and_dark() -> None:
    svg = plot(Series(x=[1, 2], y=[1, 2]), Series(x=[1, 2], y=[2, 1]))
    used = set(re.findall(r"(?:stroke|fill): (#\w+)", svg))
    assert used == set(), "a colour that no page can change"
    assert "var(--plot-series-1," in svg and "var(--plot-series-2," in svg and "var(--plot-text," in svg
    alone = standalone(svg)
    ElementTree.fromstring(alone)
    assert "prefers-color-scheme: dark" in alone and alone.count("--plot-series-2:") == 2


def test_the_same_numbers_give_the_same_text_and_two_plots_share_no_id() -> None:
    first, again = plot(Series(x=[1, 2], y=[1, 2])), plot(Series(x=[1, 2], y=[1, 2]))
    other = plot(Series(x=[1, 2], y=[1, 2]), title="loss against time")
    assert first == again
    ids = [re.findall(r'\bid="([^"]+)"', svg) for svg in (first, other)]
    assert len(set(ids[0])) == len(ids[0]) and not set(ids[0]) & set(ids[1])
    links = re.findall(r'(?:url\(|href=")#([^")]+)', first)
    assert links and set(links) <= set(ids[0])


def test_a_row_for_each_interval() -> None:
    rows = [
        Interval(label="depth=4", value=0.5, low=0.4, high=0.6),
        Interval(label="depth=6", value=0.7, low=0.65, high=0.75),
    ]
    assert {"depth=4", "depth=6", "accuracy"} <= set(texts(draw_intervals("accuracy by depth", rows, "accuracy")))


def test_numbers_at_an_axis_are_written_as_elsewhere() -> None:
    numbers = [0, 0.002, 0.5, 25, 9000, 40_000, 1.5e6, 1e12, 2e21, 1e-7]
    assert [tick(n) for n in numbers] == ["0", "0.002", "0.5", "25", "9000", "40 k", "1.5 M", "1 T", "2e21", "1e-7"]


def test_matplotlib_is_not_imported_before_something_is_drawn() -> None:
    code = "import sys, nanochat.reporting.plot; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
