"""What is wrong with parents, `unset` and `--set`: the file or the argument, and the place in it."""

from pathlib import Path

import pytest
from tiny_plugin import TINY, places, refused, write


def test_what_is_wrong_with_several_files_and_arguments_is_shown_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "seed = \n", "torn.toml")
    write(tmp_path, TINY, "base.toml")
    write(tmp_path, 'extends = ["base.toml", "gone.toml", "torn.toml"]\nunset = ["stages.sfd"]\n', "mine.toml")
    found = refused(Path("mine.toml"), "seed", "seed=1")
    assert places(found) == [("E107", "mine.toml:1:25"), ("E106", "torn.toml:1:8"), ("E109", "--set 1:1")]


def test_a_bad_unset_and_a_bad_argument_do_not_hide_the_errors_of_the_keys(tmp_path: Path) -> None:
    write(tmp_path, TINY, "base.toml")
    text = 'extends = "base.toml"\nunset = ["stages.sfd", "a b"]\n[stages.base]\nstepz = 3\n'
    found = refused(write(tmp_path, text), "seed", "seed=x")
    assert [d.code for d in found] == ["E108", "E108", "E102", "E109", "E103"]


def test_no_element_of_unset_hides_what_else_is_wrong(tmp_path: Path) -> None:
    write(tmp_path, TINY, "base.toml")
    unset = 'unset = ["stages.foo", "stages.base.optim.al", 3, "a..b", "stages.sft"]'
    found = refused(write(tmp_path, f'extends = "base.toml"\n{unset}\n[stages.base]\nstepz = 3\n'))
    assert places(found) == [
        ("E108", "recipe.toml:2:10"),
        ("E108", "recipe.toml:2:24"),
        ("E103", "recipe.toml:2:48"),
        ("E108", "recipe.toml:2:51"),
        ("E102", "recipe.toml:4:1"),
    ]
    assert found[1].label == "did you mean `all`?"


@pytest.mark.parametrize("unset", ['"stages.sft"', "5", "true", '{a = "b"}'])
def test_an_unset_that_is_no_array_is_one_error_beside_the_others(tmp_path: Path, unset: str) -> None:
    write(tmp_path, TINY, "base.toml")
    found = refused(write(tmp_path, f'extends = "base.toml"\nunset = {unset}\n[stages.base]\nstepz = 3\n'))
    assert [code for code, _ in places(found)] == ["E103", "E102"]


def test_a_table_that_a_value_replaces_is_one_error_whatever_takes_from_it(tmp_path: Path) -> None:
    found = refused(write(tmp_path, TINY), "stages.base=5")
    assert places(found) == [("E103", "--set 1:13")]  # [stages.sft.optim] is taken from stages.base.optim


def test_parents_in_a_circle_show_the_circle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, 'extends = ["b.toml"]\n', "a.toml")
    write(tmp_path, 'extends = "a.toml"\n', "b.toml")
    (found,) = refused(Path("a.toml"))
    assert (found.code, str(found.location)) == ("E107", "b.toml:1:11")
    assert "a.toml → b.toml → a.toml" in found.message


def test_a_missing_parent_stands_at_its_place_in_the_list(tmp_path: Path) -> None:
    write(tmp_path, TINY, "base.toml")
    found = refused(write(tmp_path, 'extends = ["base.toml", "gone.toml"]\n'))
    assert places(found) == [("E107", "recipe.toml:1:25")]


def test_unset_of_what_no_parent_has_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, TINY, "base.toml")
    (found,) = refused(write(tmp_path, 'extends = "base.toml"\nunset = ["stages.sfd"]\n'))
    assert (found.code, found.label) == ("E108", "did you mean `sft`?")


@pytest.mark.parametrize(
    "argument, code, said",
    [
        ("stages.base.steps", "E109", "no `=`"),
        ("stages.base.steps=1 2", "E109", "no TOML value"),
        ("stages.base.steps=[1", "E109", "no TOML value"),
        ("=3", "E109", "no key"),
        ("a b=3", "E109", "no key"),
        ("extends=base.toml", "E109", "belongs to a file"),
        ("seed=1\nname='x'", "E109", "one line"),
        ("seed=\udcff", "E109", "readable"),
        ("stages.base.step=1", "E102", "did you mean `steps`"),
        ("stages.base.steps=x", "E103", 'the string "x"'),
        ("stages.base=3", "E103", "a table"),
    ],
)
def test_a_bad_set_argument_is_shown_with_its_number(tmp_path: Path, argument: str, code: str, said: str) -> None:
    found = refused(write(tmp_path, TINY), "seed=1", argument)
    (of_argument,) = [d for d in found if d.location and d.location.path == "--set 2"]
    assert of_argument.code == code
    assert said in of_argument.render()


def test_the_carets_of_a_set_argument_stand_under_its_value(tmp_path: Path) -> None:
    (found,) = refused(write(tmp_path, TINY), "stages.base.steps=many")
    assert found.render().splitlines()[1:] == [
        "--> --set 1:19",
        " |",
        " | stages.base.steps=many",
        " |                   ^^^^",
    ]


# When a file cannot be read


def test_what_a_broken_parent_cannot_change_is_shown_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "seed = \n", "torn.toml")
    text = 'extends = "torn.toml"\nsed = 1\n[stages.base]\nuse = "pretrain"\nsteps = "5"\nstepz = 5\n'
    found = refused(write(tmp_path, text), "stages.base.compile=1")
    assert places(found) == [
        ("E102", "recipe.toml:2:1"),
        ("E103", "recipe.toml:5:9"),
        ("E102", "recipe.toml:6:1"),
        ("E106", "torn.toml:1:8"),
        ("E103", "--set 1:21"),
    ]


def test_it_is_said_that_a_broken_parent_hides_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "seed = 1\nsteps = \nx\n", "torn.toml")
    write(tmp_path, 'extends = ["torn.toml", "gone.toml", ""]\n', "mine.toml")
    remedies = [found.help for found in refused(Path("mine.toml"))]
    assert [remedy.rpartition("more may follow once ")[2] for remedy in remedies] == [
        "gone.toml can be read",
        "this is mended",
        "the value is missing; to have the default, leave the whole line out",  # said once a file
        "torn.toml can be read",
    ]


@pytest.mark.parametrize(
    "text",
    [
        'extends = "torn.toml"\n[stages.base]\nstepz = 5\n',  # of what kind is not known
        'extends = "torn.toml"\n[stages.sft]\nuse = "finetune"\ninit = "stage:base"\n',  # there may be a base
        'extends = "torn.toml"\n[stages.sft]\nuse = "finetune"\noptim = {from = "stages.base.optim"}\n',
        'extends = ["wrong.toml", "torn.toml"]\n',  # what is wrong may be replaced
        'extends = "torn.toml"\nunset = ["stages.sft"]\n',
    ],
)
def test_what_a_broken_parent_may_mend_is_not_shown(tmp_path: Path, text: str) -> None:
    write(tmp_path, "seed = \n", "torn.toml")
    write(tmp_path, TINY.replace("steps = 5", "steps = '5'"), "wrong.toml")
    assert places(refused(write(tmp_path, text))) == [("E106", "torn.toml:1:8")]


def test_a_parent_merged_over_a_broken_one_is_looked_at(tmp_path: Path) -> None:
    write(tmp_path, "seed = \n", "torn.toml")
    write(tmp_path, TINY.replace("steps = 5", "steps = '5'"), "wrong.toml")
    found = refused(write(tmp_path, 'extends = ["torn.toml", "wrong.toml"]\n'))
    assert [d.code for d in found] == ["E106", "E103"]


def test_a_missing_parent_suggests_the_file_that_is_near(tmp_path: Path) -> None:
    write(tmp_path, TINY, "base.toml")
    (found,) = refused(write(tmp_path, 'extends = "bse.toml"\n'))
    assert "base.toml`" in found.help


@pytest.mark.parametrize(
    "argument, column, width, remedy",
    [
        ("stages.base.steps", 1, 17, "write it like --set stages.base.model.depth=12"),
        ("stages.base.steps:5", 1, 19, "write it like --set stages.base.model.depth=12"),
        ("name=my run", 6, 6, "--set 'name=\"my run\"'"),
        ("name = 'my run", 8, 7, "--set 'name=\"my run\"'"),
        ("stages.base.optim.all.match=[*]", 29, 3, "strings in it take quotes"),
        ("stages.base.steps=", 19, 1, "takes quotes"),
        ("seed=99999999999999999999", 6, 20, ""),
        ("seed=" + "[" * 40 + "]" * 40, 38, 1, ""),
    ],
)
def test_a_set_argument_is_marked_where_it_is_wrong_and_says_how_it_is_written(
    tmp_path: Path, argument: str, column: int, width: int, remedy: str
) -> None:
    (found,) = refused(write(tmp_path, TINY), argument)
    place = found.location
    assert place is not None
    assert (str(place), place.width, place.text) == (f"--set 1:{column}", width, argument)
    assert remedy in found.help
