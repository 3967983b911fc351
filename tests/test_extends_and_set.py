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
