"""Figures of a sweep along its numbers: which trials are a line, means and intervals are scipy's."""

from collections.abc import Mapping

import pytest
import scipy.stats

from nanochat.reporting.document import Block, Pictures, Table
from nanochat.reporting.sweep_lines import MOST_LINES, line_blocks
from nanochat.sweeping.results import Row


def row(figures: Mapping[str, float], **settings: str) -> Row:
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return Row(settings=named, state="done", runs=["a"], seconds=1.0, figures=figures, errors={})


def table(blocks: list[Block]) -> Table:
    (found,) = (block for block in blocks if isinstance(block, Table))
    return found


def svg(blocks: list[Block]) -> str:
    (found,) = (picture.svg for block in blocks if isinstance(block, Pictures) for picture in block.pictures)
    return found


LOSSES = {
    "dense": (2.0, 2.2, 2.1),
    "galore, k = 8": (2.5, 2.6, 2.9),
    "galore, k = 32": (2.4, 2.2, 2.3),
    "molegrad, k = 8": (2.3, 2.2, 2.1),
    "molegrad, k = 32": (2.2, 2.0, 2.1),
}


def test_the_numbers_in_the_names_of_variants_are_an_axis_and_what_has_none_is_level() -> None:
    rows = [
        row({"bpb.bpb": loss}, variant=name, seed=str(seed))
        for name, losses in LOSSES.items()
        for seed, loss in enumerate(losses)
    ]
    blocks = line_blocks(rows, ["bpb.bpb"])
    found = table(blocks)
    assert list(found.titles) == ["bpb.bpb", "k 8", "k 32", "without k"]
    assert [line[0] for line in found.rows] == ["dense", "galore", "molegrad"]
    assert found.rows[0][1:3] == ["", ""] and found.rows[1][3] == ""
    low, high = scipy.stats.t.interval(0.95, 2, 2.6666666, scipy.stats.sem(LOSSES["galore, k = 8"]))
    assert found.rows[1][1] == f"2.667 ± {(high - low) / 2:.2g}"
    drawn = svg(blocks)
    assert all(name in drawn for name in ("dense", "galore", "molegrad", ">k<", "bpb.bpb"))


def test_a_key_whose_values_are_numbers_is_an_axis_with_a_line_for_each_of_the_rest() -> None:
    rows = [
        row({"training_memory_bytes": size * length, "bpb.bpb": 2.0}, variant=way, stages__base__length=str(length))
        for way, size in (("dense", 4000.0), ("streamed", 1000.0))
        for length in (1024, 2048, 8192)
    ]
    found = table(line_blocks(rows, ["training_memory_bytes"]))
    assert list(found.titles) == ["training_memory_bytes", "length 1,024", "length 2,048", "length 8,192"]
    assert [list(line) for line in found.rows] == [
        ["dense", "4.1 MB", "8.19 MB", "32.8 MB"],
        ["streamed", "1.02 MB", "2.05 MB", "8.19 MB"],
    ]


@pytest.mark.parametrize(
    "settings",
    [
        [{"variant": "qk_scale = 1.0"}, {"variant": "rotary_base = 10000"}, {"variant": "current"}],  # no way, no line
        [{"variant": "a, k = 8"}, {"variant": "b, k = 9"}],  # two lines of one point each
        [{"depth": "4"}],
        [{"window": "L"}, {"window": "4"}],
        [{"seed": "1"}, {"seed": "2"}],
    ],
)
def test_where_nothing_is_a_line_there_is_nothing(settings: list[dict[str, str]]) -> None:
    assert line_blocks([row({"bpb.bpb": 2.0}, **its) for its in settings], ["bpb.bpb"]) == []


def test_more_lines_than_can_be_told_apart_are_not_drawn() -> None:
    rows = [row({"bpb.bpb": 2.0}, variant=f"way {way}", length=str(n)) for way in range(MOST_LINES + 1) for n in (1, 2)]
    assert line_blocks(rows, ["bpb.bpb"]) == []
    assert line_blocks(rows[:-2], ["bpb.bpb"])


def test_a_trial_without_the_figure_is_left_out() -> None:
    rows = [row({"bpb.bpb": 2.0} if n < 3 else {}, length=str(n)) for n in (1, 2, 3)]
    found = table(line_blocks(rows, ["bpb.bpb", "nothing"]))
    assert [list(found.titles), *map(list, found.rows)] == [["bpb.bpb", "length 1", "length 2"], ["all", "2", "2"]]
