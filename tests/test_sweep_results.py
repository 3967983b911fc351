"""Differences between the trials of a sweep: paired by seed, with intervals that scipy's agree with and that cover."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np
import pytest
import scipy.stats
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from nanochat.cli.sweeps import show
from nanochat.errors import InputError
from nanochat.running.figures import measured_text
from nanochat.sweeping.results import Row, compared, find_reference
from nanochat.sweeping.results_text import rows_table, told_apart, variant_name
from nanochat.sweeping.student import half_width, quantile
from nanochat.sweeping.sweep import make_sweep


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
    made = rows_table(compared(found, ("variant", "current")), ["bpb"], against="current")
    assert made.titles == ["variant", "depth", "trials", "bpb", "bpb against current", "total time"]
    shown: Sequence[str] = [cell[4] for cell in made.cells]
    half = scipy.stats.t.ppf(0.975, 1) * np.std([0.5, 0.6], ddof=1) / np.sqrt(2)
    assert shown == ["", f"+0.55 ± {half:.2g}"]


def test_what_all_trials_have_alike_is_told_apart_from_what_differs() -> None:
    found = [row(1, "a", bpb=1.0, steps=1_400, memory_bytes=3e9), row(1, "b", bpb=2.0, steps=1_400, memory_bytes=3e9)]
    assert told_apart(found) == (["bpb"], {"steps": "1,400", "memory_bytes": "3 GB"})
    assert told_apart(found[:1])[0] == ["bpb", "steps", "memory_bytes"], "one trial differs from no other"
    assert told_apart([found[0], row(1, "b")])[0] == ["bpb", "steps", "memory_bytes"], "the other lacks them"
    assert told_apart([*found, attrs.evolve(row(2, "b"), removed=["gone"])]) == told_apart(found)


@pytest.mark.parametrize(
    ("figure", "value", "error", "said"),
    [
        ("peak_memory_bytes", 1.397e9, 2.9e7, "1.4 GB ± 29 MB"),
        ("parameters", 5_243_010.0, None, "5,243,010"),
        ("tokens", 999_424.5, 2.9e3, "999,424 ± 2,900"),
        ("bpb.bpb", 1.6217, 0.00095, "1.622 ± 0.00095"),
        ("arithmetic.accuracy", 0.45, 0.012, "45.0% ± 1.2%"),
        ("peak_memory_bytes", float("inf"), None, "inf"),
        ("steps", 244.0, 0.0, "244"),
    ],
)
def test_a_figure_and_its_error_are_read_in_one_unit(figure: str, value: float, error: float | None, said: str) -> None:
    assert measured_text(figure, value, error) == said


def test_a_variant_is_called_by_its_name_and_other_keys_by_theirs() -> None:
    assert variant_name({"variant": "smear = false", "stages.base.model.depth": "4", "seed": "1"}) == (
        "smear = false depth=4"
    )
    assert variant_name({"seed": "1"}) == "all"


def test_what_is_shown_of_a_sweep_is_what_differs_and_what_the_errors_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    make_sweep("s", recipe="a.toml")
    found = [row(s, "current", bpb=1.0 + s / 10, steps=244, peak_memory_bytes=1.4e9 + 1e6 * s) for s in (1, 2)]
    found += [row(s, "smear", bpb=1.5 + s / 5, steps=244, peak_memory_bytes=1.4e9) for s in (1, 2)]
    found += [row(1, "late", state="waiting"), row(1, "bad", state="failed")]
    monkeypatch.setattr("nanochat.cli.sweeps.rows", lambda _: found)

    def shown(*words: str) -> list[str]:
        result = CliRunner().invoke(show, ["s", *words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    head, *lines = shown("--against", "current")
    assert "steps" not in head and "depth" in head and "bpb against current" in head
    assert any("1.4 GB ± 500 kB" in line for line in lines) and any(line.startswith("bad") for line in lines)
    assert not any(line.startswith("late") for line in lines), "those that wait are counted"
    assert "The same in all trials: steps 244 (--all shows them)." in lines
    assert any("standard error of the mean" in line and "half their 95 % interval" in line for line in lines)
    assert "steps" in shown("--all")[0] and not any("The same" in line for line in shown("--all"))
    assert any(line.startswith("late") for line in shown("--trials"))
    assert shown("--md")[0].startswith("| variant")

    some = "--against", "current", "--columns", "steps,bpb"
    titles, *lines = shown(*some)
    figures = ["steps", "bpb", "steps against current", "bpb against current"]
    assert re.split("  +", titles) == ["variant", "depth", "seed", "trials", *figures, "total time"]
    assert not any("The same" in line for line in lines)
    assert next(list(each["figures"]) for each in json.loads("".join(shown(*some, "--json")))) == ["steps", "bpb"]
    for wrong, said in (("--columns", "bbp"), "did you mean"), (("--columns", "bpb", "--all"), "one of them"):
        with pytest.raises(InputError, match=said):
            shown(*wrong)
