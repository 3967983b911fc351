"""`nanochat new PATH --from RUN`: a recipe that says what a run was, and from which run it was branched."""

import json
from pathlib import Path

import pytest
from test_running import MACHINE, House, enter

from nanochat.cli.main import _finish
from nanochat.recipe.load import load_recipe
from nanochat.registry import load_registry
from nanochat.reporting.origin import parent_of
from nanochat.running.plan import Plan, make_plan
from nanochat.running.run_folder import RunFolder
from nanochat.running.store import Store
from nanochat.sweeping.sweep import find_sweep


@pytest.fixture
def house(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> House:
    house = enter(tmp_path_factory.mktemp("house"), monkeypatch)
    for command in ("new_from", "diff"):
        monkeypatch.setattr(f"nanochat.cli.{command}.probe_machine", lambda: MACHINE, raising=False)
    return house


def begun(house: House, recipe: Path) -> tuple[RunFolder, Plan]:
    """A run's folder as it is before its first stage."""
    registry = load_registry()
    plan = make_plan(load_recipe(recipe, registry=registry, machine=MACHINE), MACHINE, Store(), registry)
    run = RunFolder(plan.run_folder)
    run.open(plan, MACHINE, registry)
    return run, plan


def keys(plan: Plan) -> dict[str, str]:
    return {stage.name: stage.key for stage in plan.stages}


def test_a_branch_without_changes_has_the_keys_of_its_run(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    run, plan = begun(house, house.recipe)
    branch = house.folder / "branch.toml"
    assert _finish(["new", str(branch), "--from", run.path.name]) == 0
    assert "left to do: one, two, grade" in capsys.readouterr().out
    assert keys(begun(house, branch)[1]) == keys(plan)
    assert load_recipe(branch, machine=MACHINE).values["parent",].value == run.path.name


def test_a_change_alters_the_keys_of_its_stage_and_of_those_behind_it(house: House) -> None:
    _, plan = begun(house, house.recipe)
    branch = house.folder / "branch.toml"
    assert _finish(["new", str(branch), "--from", "counting", "--set", "stages.two.steps=9"]) == 0
    before, after = keys(plan), keys(begun(house, branch)[1])
    assert [name for name in before if before[name] != after[name]] == ["two", "grade"]
    assert "# stages.two.steps=9" in branch.read_text()


def test_one_alone_is_compared_with_what_it_was_branched_from(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = begun(house, house.recipe)
    branch = house.folder / "branch.toml"
    _finish(["new", str(branch), "--from", run.path.name, "--set", "stages.two.steps=9"])
    capsys.readouterr()
    with pytest.raises(SystemExit, match="1"):
        _finish(["diff", str(branch)])
    shown = capsys.readouterr().out
    assert "stages.two.steps" in shown and "parent" not in shown
    branched, _ = begun(house, branch)
    parent = parent_of(branched)
    assert parent is not None and parent.path == run.path
    assert _finish(["diff", str(house.recipe)]) == 2


WIDTHS = """
format = 1
name = "widths"

[hardware]
device = "cpu"
[stages.tok]
use = "tokenizer"
vocab_size = 300
[stages.tok.data.mine]
use = "files"
path = "words.txt"
[stages.base]
use = "pretrain"
tokenizer = "stage:tok"
steps = 2
total_batch_size = 64
[stages.base.model]
use = "gpt"
depth = 1
head_dim = 32
aspect_ratio = 32
sequence_len = 32
[stages.base.data]
from = "stages.tok.data"
[stages.base.optim.all]
use = "adamw"
match = "*"
lr = 0.01
"""


@pytest.fixture
def trials(house: House, monkeypatch: pytest.MonkeyPatch) -> list[tuple[RunFolder, Plan]]:
    """The begun runs of a sweep's trials, of depths 1 and 2."""
    (house.folder / "words.txt").write_text("Once upon a time there was a word. " * 400)
    house.write(WIDTHS)
    monkeypatch.setattr("nanochat.cli.sweep.probe_machine", lambda: MACHINE)
    monkeypatch.setattr("nanochat.cli.sweep.run_sweep", lambda sweep, display: 0)
    with pytest.raises(SystemExit, match="0"):
        _finish(["sweep", str(house.recipe), "--grid", "stages.base.model.depth=1,2", "-q"])
    return [begun(house, trial.recipe) for trial in find_sweep("widths").trials()]


def test_what_follows_from_others_in_a_sweeps_trial_follows_in_its_branch(
    house: House, trials: list[tuple[RunFolder, Plan]]
) -> None:
    (shallow, plan), (_, deep) = trials
    branch = house.folder / "branch.toml"
    assert _finish(["new", str(branch), "--from", shallow.path.name]) == 0
    assert keys(begun(house, branch)[1]) == keys(plan)
    branch.unlink()
    assert _finish(["new", str(branch), "--from", shallow.path.name, "--set", "stages.base.model.depth=2"]) == 0
    assert "n_head" not in branch.read_text()
    _, wider = begun(house, branch)
    assert keys(wider) == keys(deep)
    assert wider.recipe.stages["base"].config.model.config.dim == 64


def test_trials_differ_in_what_was_chosen_and_in_what_follows_from_it(
    trials: list[tuple[RunFolder, Plan]], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    with pytest.raises(SystemExit, match="1"):
        _finish(["diff", *(run.path.name for run, _ in trials), "--json"])
    found = json.loads(capsys.readouterr().out)["differences"]
    assert [one["key"] for one in found if one["group"] == "identity"] == ["stages.base.model.depth"]
    assert {"stages.base.model.dim", "stages.base.model.n_head"} <= {
        one["key"] for one in found if one["group"] == "derived"
    }


def test_what_was_changed_in_a_lock_is_no_longer_said_to_follow(
    house: House, trials: list[tuple[RunFolder, Plan]]
) -> None:
    """A lock is run with another depth: its width is the old one, and a branch of that run has it too."""
    (shallow, _), _ = trials
    registry = load_registry()
    lock = shallow.path / "recipe.lock.toml"
    changed = load_recipe(lock, overrides=["stages.base.model.depth=3"], registry=registry, machine=MACHINE)
    plan = make_plan(changed, MACHINE, Store(), registry)
    run = RunFolder(plan.run_folder)
    run.open(plan, MACHINE, registry)
    branch = house.folder / "branch.toml"
    assert _finish(["new", str(branch), "--from", run.path.name]) == 0
    assert keys(begun(house, branch)[1]) == keys(plan)


@pytest.mark.parametrize(
    "words, said",
    [
        (["--from", "nobody"], "nobody"),
        (["--from", "counting", "--set", "stages.two.stepz=1"], "did you mean `steps`?"),
        (["--from", "counting", "--depth", "4"], "--from takes all values from the run"),
        (["--set", "seed=1"], "name the run: --from RUN"),
    ],
)
def test_what_cannot_be_branched_is_said_and_nothing_is_written(
    house: House, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    begun(house, house.recipe)
    assert _finish(["new", str(house.folder / "branch.toml"), *words]) == 2
    assert said in "".join(capsys.readouterr())
    assert not (house.folder / "branch.toml").exists()
