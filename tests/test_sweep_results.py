"""Differences between the trials of a sweep: paired by seed, with intervals that scipy's agree with and that cover."""

from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from nanochat.cli.sweeps import _table
from nanochat.errors import InputError
from nanochat.sweeping.results import Row, compared, find_reference
from nanochat.sweeping.student import half_width, quantile


def row(seed: int, variant: str, depth: int = 4, state: str = "done", **figures: float) -> Row:
    settings = {"variant": variant, "depth": str(depth), "seed": str(seed)}
    return Row(settings=settings, state=state, runs=[], seconds=1.0, figures=figures, errors={})


@given(st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99, 0.999]), st.integers(1, 200))
def test_the_quantile_is_scipys(level: float, freedom: int) -> None:
    assert quantile(level, freedom) == pytest.approx(scipy.stats.t.ppf((1 + level) / 2, freedom), rel=1e-9)


def test_an_interval_covers_as_often_as_it_says() -> None:
    """4,000 samples of 3 differences: 95 % ± 4 standard errors of that share."""
    generator = np.random.default_rng(0)
    samples = generator.normal(0.3, 2.0, (4_000, 3))
    covered = [abs(sample.mean() - 0.3) <= (half_width(list(sample)) or 0) for sample in samples]
    assert abs(np.mean(covered) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 4_000)


def test_differences_are_paired_by_seed_and_are_those_of_scipys_paired_test() -> None:
    generator = np.random.default_rng(1)
    seeds, gain = generator.normal(1.5, 0.2, 5), generator.normal(-0.01, 0.005, 5)
    found = [row(seed, "current", bpb=float(value)) for seed, value in enumerate(seeds)]
    found += [row(seed, "smear", bpb=float(value)) for seed, value in enumerate(seeds + gain)]
    current, smear = compared(found, ("variant", "current"))
    assert current.differences == {}
    interval = scipy.stats.ttest_rel(seeds + gain, seeds).confidence_interval(0.95)
    difference = smear.differences["bpb"]
    assert difference.half is not None
    assert (difference.mean - difference.half, difference.mean + difference.half) == pytest.approx(tuple(interval))


def test_only_what_is_else_alike_and_done_is_compared() -> None:
    found = [row(1, "current", bpb=1.0), row(2, "current", bpb=2.0), row(1, "current", depth=6, bpb=10.0)]
    found += [row(1, "smear", bpb=1.5), row(3, "smear", bpb=9.0), row(2, "smear", state="failed")]
    found += [row(1, "smear", depth=6, bpb=9.0), row(1, "other", depth=8, bpb=3.0)]
    rows = {tuple(row.settings.values()): row.differences for row in compared(found, ("variant", "current"))}
    assert (rows["smear", "4"]["bpb"].mean, rows["smear", "4"]["bpb"].half) == (0.5, None)
    assert rows["smear", "6"]["bpb"].mean == -1.0
    assert rows["other", "8"] == {}


@pytest.mark.parametrize(
    "text, said",
    [("curent", "did you mean `current`?"), ("4", ""), ("seed=1", "no trial has this value"), ("x", "there are")],
)
def test_what_to_compare_with_is_a_value_or_a_key_and_its_value(text: str, said: str) -> None:
    found = [row(1, "current"), row(1, "smear")]
    if not said:
        assert find_reference(found, text) == find_reference(found, f"depth={text}") == ("depth", text)
        return
    with pytest.raises(InputError) as caught:
        find_reference(found, text)
    assert said in str(caught.value)


def test_the_table_shows_the_difference_beside_the_mean() -> None:
    found = [row(1, "current", bpb=1.0), row(2, "current", bpb=1.1), row(1, "smear", bpb=1.5), row(2, "smear", bpb=1.7)]
    columns, cells = _table(compared(found, ("variant", "current")), "current")
    assert columns == ["variant", "depth", "state", "bpb", "bpb against current", "time"]
    shown: Sequence[str] = [cell[4] for cell in cells]
    half = scipy.stats.t.ppf(0.975, 1) * np.std([0.5, 0.6], ddof=1) / np.sqrt(2)
    assert shown == ["", f"+0.55 ± {half:.2g}"]
