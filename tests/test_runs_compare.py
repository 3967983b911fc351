"""`nanochat runs` that compares: columns, order, conditions, means over seeds. The runs are written, not made."""

import json
import math
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nanochat.cli.runs import command
from nanochat.cli.runs_compare import Wanted, left_out, titles
from nanochat.errors import InputError
from nanochat.running.json_file import append_line, write_json
from nanochat.sweeping.results import Row

BPB = {(4, 1): 1.30, (4, 2): 1.36, (4, 3): 1.33, (6, 1): 1.20, (6, 2): 1.22}
LOCK = """
format = 1
name = "tale"
seed = {seed}
[hardware]
nproc_per_node = {seed}
[stages.base]
use = "pretrain"
steps = 400
[stages.base.model]
use = "gpt"
depth = {depth}
[lock.derived."stages.base.model.dim".inputs]
depth = {depth}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs of two depths over seeds, and one of depth 8 that was not finished."""
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    for (depth, seed), bpb in [*BPB.items(), ((8, 1), None)]:
        run, key = tmp_path / "runs" / f"tale-d{depth}s{seed}", f"{depth}{seed}" * 32
        stage = tmp_path / "store" / f"base-{key[:8]}"
        run.mkdir(parents=True)
        stage.mkdir(parents=True)
        planned = {"stage": "base", "use": "pretrain", "produces": "checkpoint", "key": key, "folder": str(stage)}
        write_json(run / "plan.json", {"recipe": "tale", "stages": [planned]})
        (run / "recipe.lock.toml").write_text(LOCK.format(depth=depth, seed=seed))
        write_json(stage / "config.json", {"key": key})
        append_line(stage / "metrics.jsonl", {"step": 1, "loss": 9.0})
        append_line(stage / "metrics.jsonl", {"step": 2, "loss": 10.0 - depth - seed / 10})
        append_line(stage / "metrics.jsonl", {"step": 2, "val.bpb": 1.0})
        if bpb is not None:
            write_json(stage / "record.json", {"key": key, "figures": {"val.bpb": {"value": bpb, "n": 9}}})
    return tmp_path


def runs(*arguments: str) -> Any:
    result = CliRunner().invoke(command, list(arguments), standalone_mode=False)
    if isinstance(result.exception, InputError):
        raise result.exception
    assert result.exception is None, result.exception
    return result.output


def names(*arguments: str) -> list[str]:
    return [line.split()[0] for line in runs(*arguments).splitlines()[1:]]


def test_columns_are_keys_and_figures_written_out_or_in_short(home: Path) -> None:
    long = runs("--columns", "stages.base.model.depth,base.val.bpb,base.loss", "--sort", "run")
    titles, first, *_ = [line.split() for line in long.splitlines()]
    assert titles == ["run", "state", "stages.base.model.depth", "base.val.bpb", "base.loss"]
    assert first == ["tale-d4s1", "finished", "4", "1.3", "5.9"]
    for short in ("model.depth,base.bpb,base.loss", "base.depth,bpb,loss"):
        titles, *rows = [line.split() for line in runs("--columns", short, "--sort", "run").splitlines()]
        assert titles[2:] == short.split(",")
        assert rows == [line.split() for line in long.splitlines()[1:]]


def test_runs_are_sorted_by_any_column_and_those_without_it_come_last(home: Path) -> None:
    assert names("--sort", "base.bpb") == ["tale-d6s1", "tale-d6s2", "tale-d4s1", "tale-d4s3", "tale-d4s2", "tale-d8s1"]
    assert names("--sort", "-base.loss")[0] == "tale-d4s1"
    assert names("--sort", "-depth")[0] == "tale-d8s1"


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (["stages.base.model.depth=6"], {"tale-d6s1", "tale-d6s2"}),
        (["depth=6", "seed=1"], {"tale-d6s1"}),
        (["base.bpb<1.25"], {"tale-d6s1", "tale-d6s2"}),
        (["depth >= 6", "seed!=2"], {"tale-d6s1", "tale-d8s1"}),
        (["run=tale-d8s1"], {"tale-d8s1"}),
        (["depth=4.0", "state=finished", "seed>2"], {"tale-d4s3"}),
    ],
)
def test_conditions_narrow_the_list(home: Path, conditions: list[str], expected: set[str]) -> None:
    assert set(names(*(part for condition in conditions for part in ("--where", condition)))) == expected


@pytest.mark.parametrize("condition", ["base.bpb<abc", "base.bpb>zzz", "depth >= four", "seed<=", "base.loss<nan"])
def test_numbers_are_above_and_below_numbers_alone(home: Path, condition: str) -> None:
    with pytest.raises(InputError, match="is no number") as caught:
        runs("--where", condition)
    (found,) = caught.value.diagnostics
    assert found.code == "E407" and condition in found.message and found.help.startswith("its values are ")


def test_words_are_above_and_below_words_and_a_word_among_numbers_is_neither(home: Path) -> None:
    assert set(names("--where", "run<tale-d6")) == {"tale-d4s1", "tale-d4s2", "tale-d4s3"}
    lock = home / "runs" / "tale-d4s1" / "recipe.lock.toml"
    lock.write_text(lock.read_text().replace("depth = 4", 'depth = "none"'))
    listed = [set(names("--where", condition)) for condition in ("depth<5", "depth>5", "depth=none")]
    assert listed == [{"tale-d4s2", "tale-d4s3"}, {"tale-d6s1", "tale-d6s2", "tale-d8s1"}, {"tale-d4s1"}]


def test_conditions_that_nothing_meets_are_no_error(home: Path) -> None:
    assert runs("--where", "depth=5", "--where", "seed=1", "--sort", "base.bpb").strip() == "no such runs"
    assert json.loads(runs("--where", "depth=5", "--over", "seed", "--json")) == []


def test_over_seeds_there_is_a_mean_with_its_standard_error(home: Path) -> None:
    found = json.loads(runs("--over", "seed", "--columns", "depth,base.bpb", "--sort", "depth", "--json"))
    assert [(row["state"], row["stages.base.model.depth"], len(row["runs"])) for row in found] == [
        ("3 seeds", "4", 3),
        ("2 seeds", "6", 2),
    ]
    assert found[0]["base.val.bpb"] == pytest.approx(1.33)
    assert found[0]["standard_errors"]["base.val.bpb"] == pytest.approx(0.03 / math.sqrt(3))
    assert found[1]["standard_errors"]["base.val.bpb"] == pytest.approx(0.01)
    table = runs("--over", "seed", "--sort", "base.bpb", "--md")
    assert "| 2 runs | 2 seeds | 6 " in table and "1.21 ± 0.01" in table


def test_what_the_runs_are_compared_by_is_not_crowded_out_by_the_keys_in_which_they_differ() -> None:
    found = [
        Row(
            settings={f"stages.base.key_{key}": str(number) for key in range(30)},
            state="finished",
            runs=[f"r{number}"],
            seconds=None,
            figures={"tok.characters": 5.0, "base.steps": float(number), "base.bpb.bpb": 1.0 + number},
            errors={},
        )
        for number in range(3)
    ]
    shown = titles(found, Wanted(sort="-key_7"))
    assert shown[:2] == ["stages.base.key_7", "base.bpb.bpb"] and len(shown) == 12
    assert left_out(found, Wanted(sort="-key_7")) == 33 - 12


def test_without_columns_those_are_shown_in_which_the_runs_differ(home: Path) -> None:
    titles = runs("--where", "depth<8").splitlines()[0].split()
    assert {"seed", "depth", "bpb", "loss"} <= set(titles)  # no longer than tells them apart
    assert "steps" not in titles


@pytest.mark.parametrize("option", ["--columns", "--sort", "--over", "--where"])
def test_a_column_that_no_run_has_is_answered_with_one_that_is_near(home: Path, option: str) -> None:
    with pytest.raises(InputError) as caught:
        runs(option, "stages.base.model.dept" + ("=4" if option == "--where" else ""))
    (found,) = caught.value.diagnostics
    assert found.code == "E407" and option in found.message
    assert "did you mean `stages.base.model.depth`" in found.help


@pytest.mark.parametrize(
    ("asked", "near"),
    [("base.dept", "base.depth"), ("modle.depth", "model.depth"), ("dept", "depth"), ("base.bbp", "base.bpb")],
)
def test_a_misspelt_short_name_is_answered_with_a_short_name_that_is_taken(home: Path, asked: str, near: str) -> None:
    with pytest.raises(InputError) as caught:
        runs("--columns", asked)
    assert f"did you mean `{near}`" in caught.value.diagnostics[0].help
    runs("--columns", near)


def test_a_short_name_of_several_columns_is_refused_with_them(home: Path) -> None:
    with pytest.raises(InputError) as caught:
        runs("--columns", "use")
    assert "stages.base.use, stages.base.model.use" in caught.value.diagnostics[0].help
    with pytest.raises(InputError, match="no condition"):
        runs("--where", "depth")


def test_a_run_whose_lock_is_gone_or_torn_is_listed_without_its_keys(home: Path) -> None:
    (home / "runs" / "tale-d4s1" / "recipe.lock.toml").write_text("seed = ")
    (home / "runs" / "tale-d4s2" / "recipe.lock.toml").unlink()
    rows = json.loads(runs("--columns", "depth,base.bpb", "--sort", "run", "--json"))
    assert [row["stages.base.model.depth"] for row in rows[:3]] == [None, None, "4"]
    assert rows[0]["base.val.bpb"] == 1.3


def test_the_examples_of_the_help_and_the_readme_name_columns_of_the_runs_of_our_own_recipes(home: Path) -> None:
    """The quickstart's base stage has `evals.bpb`, whose figures are bpb.bpb and one for each source."""
    for number, bpb in ((41, 1.3), (61, 1.2)):
        path = home / "store" / f"base-{str(number) * 4}" / "record.json"
        told = {"bpb.bpb": bpb, "bpb.bpb.docs": bpb + 1, "bpb.bpb.stories": bpb - 1}
        record = json.loads(path.read_text())
        record["figures"] = {name: {"value": value, "n": 9} for name, value in told.items()}
        write_json(path, record)
    readme = Path(__file__).parents[1] / "README.md"
    words = re.search(r"`(--columns [^`]+)`", readme.read_text(encoding="utf-8"))
    assert words is not None
    rows = json.loads(runs(*shlex.split(words[1]), "--json"))
    assert [row["base.bpb.bpb"] for row in rows] == [1.2, 1.3]
    help_ = " ".join(runs("--help").split())
    for column in re.findall(r"[\w.]+", help_.partition("where that is clear: ")[2].partition("--over")[0]):
        runs("--where", "seed=1", "--columns", column.rstrip("."))


def test_a_seed_that_two_runs_have_and_one_result_of_two_runs_count_once(home: Path) -> None:
    """Two runs of one seed: one of the same stages under another name, one whose stages were made anew."""
    for name, key in (("again-d6s1", "61" * 32), ("anew-d6s2", "ab" * 32)):
        (home / "runs" / name).mkdir()
        (home / "runs" / name / "recipe.lock.toml").write_text(LOCK.format(depth=6, seed=int(name[-1])))
        stage = home / "store" / f"base-{key[:8]}"
        planned = {"stage": "base", "use": "pretrain", "produces": "checkpoint", "key": key, "folder": str(stage)}
        write_json(home / "runs" / name / "plan.json", {"recipe": name, "stages": [planned]})
        if not stage.exists():
            stage.mkdir()
            write_json(stage / "config.json", {"key": key})
            write_json(stage / "record.json", {"key": key, "figures": {"val.bpb": {"value": 1.24, "n": 9}}})
    six = json.loads(runs("--over", "seed", "--where", "depth=6", "--columns", "base.bpb", "--json"))
    (row,) = six
    assert (row["state"], len(row["runs"])) == ("2 seeds", 2)
    assert row["base.val.bpb"] == pytest.approx((1.20 + 1.24) / 2)  # of seed 2 the newest
    assert row["standard_errors"]["base.val.bpb"] == pytest.approx(0.02)
    (row,) = json.loads(runs("--over", "depth", "--where", "seed=1", "--columns", "base.bpb", "--json"))
    assert row["state"] == "2 values of depth"


def test_what_was_started_last_comes_first_however_late_its_files_were_copied(home: Path) -> None:
    for depth, day in ((4, "03"), (6, "01"), (8, "02")):
        write_json(home / "runs" / f"tale-d{depth}s1" / "env.json", {"time": f"2026-01-{day}T00:00:00+00:00"})
    listed = json.loads(runs("--where", "seed=1", "--columns", "depth", "--json"))
    assert [row["stages.base.model.depth"] for row in listed] == ["4", "8", "6"]
