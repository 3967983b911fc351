"""`nanochat new PATH --from RUN`: a recipe that says what a run was, and from which run it was branched."""

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
