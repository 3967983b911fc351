"""`[sweep]` in a recipe: what `nanochat sweep RECIPE` makes of it, how it merges, and what is wrong with one."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from test_running import RECIPE, House, enter
from tiny_plugin import places, refused

from nanochat.cli.main import _finish
from nanochat.recipe.load import load_recipe, read_sweep
from nanochat.recipe.lock import lock_text
from nanochat.sweeping.axes import grid_axes, over, random_ranges, trials
from nanochat.sweeping.sweep import find_sweep, make_sweep

SWEEP = """
[sweep]
until = "two"
[sweep.grid]
seed = [1, 2]
stages.one.steps = [2, 3]
[sweep.variants]
plain = {}
short = { "stages.two.steps" = 1 }
"from nothing" = { unset = ["stages.two.init"] }
"""


@pytest.fixture
def house(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> House:
    house = enter(tmp_path_factory.mktemp("house"), monkeypatch)
    house.write(RECIPE + SWEEP)
    return house


def planned(recipe: Path, grid: Sequence[str] = (), drawn: Sequence[str] = ()) -> list[list[str]]:
    table = over(read_sweep(recipe), grid_axes(grid), random_ranges(drawn))
    return [[change.text for change in trial] for trial in trials(table.axes, table.ranges, table.draws, seed=0)]


def test_each_variant_is_combined_with_each_value_of_the_grid(house: House) -> None:
    made = planned(house.recipe)
    assert made == [
        [f"variant={name}", f"seed={seed}", f"stages.one.steps={steps}"]
        for name in ("plain", "short", "from nothing")
        for seed in (1, 2)
        for steps in (2, 3)
    ]


def test_the_command_line_replaces_a_keys_values_and_adds_keys(house: House) -> None:
    made = planned(house.recipe, ["seed=7", "variant=short", "stages.two.steps=9"], ["stages.one.steps=10..20"])
    assert len(made) == 8
    assert made[0][:3] == ["variant=short", "seed=7", "stages.two.steps=9"]
    assert all(10 <= int(trial[3].removeprefix("stages.one.steps=")) <= 20 for trial in made)


def test_a_trial_has_the_keys_of_a_recipe_that_says_the_same(house: House) -> None:
    by_hand = house.folder / "by_hand.toml"
    by_hand.write_text(
        'format = 1\nextends = "counting.toml"\nseed = 2\nunset = ["sweep", "stages.two.init"]\n'
        "[stages.one]\nsteps = 3\n"
    )
    table = read_sweep(house.recipe)
    last = trials(table.axes, table.ranges, table.draws, seed=0)[-1]
    found, expected = load_recipe(house.recipe, changes=last), load_recipe(by_hand)
    for name, stage in expected.stages.items():
        assert found.stages[name].identity(seed=found.seed) == stage.identity(seed=expected.seed)


def test_it_is_no_part_of_a_key_a_lock_or_a_run(house: House) -> None:
    with_it = load_recipe(house.recipe)
    house.write(RECIPE)
    without = load_recipe(house.recipe)
    assert lock_text(with_it) == lock_text(without)
    assert [s.identity(seed=42) for s in with_it.stages.values()] == [
        s.identity(seed=42) for s in without.stages.values()
    ]


def test_tables_of_parents_are_merged_and_unset(house: House) -> None:
    child = house.folder / "child.toml"
    child.write_text(
        'format = 1\nextends = "counting.toml"\nunset = ["sweep.variants", "sweep.grid.stages"]\n'
        "[sweep]\ndraws = 3\n[sweep.random]\n'stages.one.pause' = [0.0, 1.0]\n"
    )
    made = planned(child)
    assert [trial[0] for trial in made] == ["seed=1"] * 3 + ["seed=2"] * 3
    assert read_sweep(child).until == "two"


def test_its_trials_are_queued_as_whole_recipes_up_to_its_last_stage(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nanochat.cli.sweep.run_sweep", lambda sweep, display: 0)
    words = ["--grid", "seed=5", "--grid", "stages.one.steps=2", "--grid", "variant=from nothing,short"]
    with pytest.raises(SystemExit, match="0"):
        _finish(["sweep", str(house.recipe), *words])
    lines = capsys.readouterr().out.splitlines()
    assert "one, two" in lines[1] and "two" in lines[2] and "one" not in lines[2] and "grade" not in "".join(lines)
    sweep = find_sweep("counting")
    assert sweep.until == "two"
    assert [trial.name for trial in sweep.trials()] == [
        "from nothing seed=5 steps=2",
        "short seed=5 steps=2",
    ]
    nothing, short = (load_recipe(trial.recipe) for trial in sweep.trials())
    assert (nothing.stages["two"].inputs, nothing.stages["two"].config.steps) == ({}, 5)
    assert (short.seed, short.stages["two"].inputs, short.stages["two"].config.steps) == (5, {"stage:one": "one"}, 1)
    assert not read_sweep(sweep.trials()[0].recipe).axes


def test_a_trial_whose_recipe_has_changed_since_is_named(house: House) -> None:
    sweep = make_sweep("counting")
    sweep.add([(["variant=plain"], house.plan("seed=1")), (["variant=short"], house.plan("seed=2"))])
    assert not sweep.outdated([(["variant=plain"], house.plan("seed=1"))])
    now = [(["variant=plain"], house.plan("seed=1")), (["variant=short"], house.plan("seed=3"))]
    assert [trial.number for trial in sweep.outdated(now)] == [2]


BAD = """
[sweep.grid]
seed = []
"stages.two.steps" = 3
stages.one.steps = [4]
"stages.one.steps" = [4]
"a b" = [1]
[sweep.random]
"stages.one.pause" = [nan, 0.5]
"stages.two.pause" = [0.0, inf]
"stages.one.steps" = [1, 2]
"x.a" = [2, 1]
"x.b" = [1]
"x.c" = ["a", "b"]
[sweep.variants]
number = 3
word = { "stages.two.steps" = 1, unset = "stages.two.init" }
"""


def test_all_that_is_wrong_with_one_is_shown_at_its_place_by_every_command(house: House) -> None:
    house.write(RECIPE + BAD)
    first = RECIPE.count("\n") + 2
    found = [one for one in refused(house.recipe) if one.code != "E201"]  # the stages are of another plugin
    assert [(code, int(place.split(":")[-2]) - first) for code, place in places(found)] == [
        ("E104", 1),
        ("E103", 2),
        ("E115", 4),
        ("E102", 5),
        ("E104", 7),
        ("E104", 8),
        ("E115", 9),
        ("E104", 10),
        ("E104", 11),
        ("E104", 12),
        ("E103", 14),
        ("E103", 15),
    ]


@pytest.mark.parametrize(
    "table, said",
    [
        ("[sweep.grid]\n", ["E104", "sweep.grid is empty"]),
        ("[sweep]\n", ["E407", "nothing varies"]),
        ("[sweep]\ngird = {}\n", ["E102", "unknown key `gird` in sweep", "did you mean `grid`?"]),
        ("[sweep]\ndraws = 0\n", ["E104", "it is at least 1"]),
        ('[sweep]\nuntil = "tow"\n[sweep.grid]\nseed = [1]\n', ["E110", "no stage", "did you mean `two`?", ":22:"]),
        ('[sweep]\nuntil = "x"\n[sweep.grid]\nseed = [1]\n', ["E110", "stages: one, two, grade", ":22:"]),
        ("[sweep.grid]\nname = ['a', 'b']\n", ["E115", "`name` is of no stage", ":22:"]),
        ("[sweep.random]\nparent = [1, 2]\n", ["E115", "`parent` is of no stage", ":22:"]),
        ("[sweep.grid]\n'stages.two.stepz' = [1]\n", ["E102", "unknown key `stepz`", "did you mean `steps`?", ":22:"]),
        ("[sweep.random]\n'stages.two.stepz' = [1, 2]\n", ["E102", "unknown key `stepz`", ":22:"]),
        ("[sweep.variants]\na = {'stages.too.steps' = 1}\n", ["in the variant variant=a", "did you mean", ":22:"]),
        ("[sweep.variants]\na = {unset = ['stages.two.int']}\n", ["E108", "did you mean `init`?", ":22:"]),
        ("[sweep.variants]\n' ' = {}\n", ["E104", "is no name to show"]),
        (f"[sweep.grid]\nseed = {list(range(10_000))}\n", ["10,000 variants", "--yes"]),
    ],
)
def test_what_no_recipe_has_is_said_with_its_place(
    house: House, capsys: pytest.CaptureFixture[str], table: str, said: Sequence[str]
) -> None:
    house.write(RECIPE + table)
    assert _finish(["sweep", str(house.recipe)]) == 2
    output = "".join(capsys.readouterr())
    for words in said:
        assert words in output, output
    assert not (house.folder / "home" / "sweeps").exists()


def test_the_last_stage_may_be_one_that_only_a_variant_has(house: House) -> None:
    extra = '[sweep]\nuntil = "three"\n[sweep.variants.more.stages.three]\nuse = "count"\n'
    house.write(RECIPE + extra)
    assert read_sweep(house.recipe).until == "three"


def test_a_variant_that_is_not_there_is_named_with_those_that_are(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _finish(["sweep", str(house.recipe), "--grid", "variant=shrot"]) == 2
    assert "did you mean `short`?" in "".join(capsys.readouterr())


def test_it_is_said_how_far_the_planning_of_many_variants_is(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nanochat.cli.sweep.SAY_SECONDS", 0.0)
    _finish(["sweep", str(house.recipe), "--grid", "seed=1,2,3", "--dry-run"])
    assert "planned 17 of 18 variants" in capsys.readouterr().err


def test_a_variant_with_a_comma_in_its_name_is_chosen_in_quotes(house: House) -> None:
    house.write(
        RECIPE + '[sweep]\n[sweep.variants]\n"short, k = 8" = { "stages.one.steps" = 8 }\n"plain, k = 2" = {}\n'
    )
    made = planned(house.recipe, ["variant=\"plain, k = 2\",'short, k = 8'"])
    assert made == [["variant=plain, k = 2"], ["variant=short, k = 8"]]
