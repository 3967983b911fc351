"""The values of a recipe: their types, of which none is coerced, their defaults, and the paths in them."""

import math
from pathlib import Path
from typing import Any

import pytest
from tiny_plugin import TINY, load, write

from nanochat.errors import InputError
from nanochat.recipe.strict import Mismatch, structure
from nanochat.training.schedule_config import ScheduleConfig


def test_a_partial_nested_table_keeps_the_rest_of_the_default_instance(tmp_path: Path) -> None:
    text = TINY + "[stages.sft.schedule]\nfinal_lr = 0.5\n"
    schedule = load(write(tmp_path, text)).stages["sft"].config.schedule
    assert (schedule.final_lr, schedule.momentum_peak, schedule.warmdown_ratio) == (0.5, 0.95, 0.5)


EVERYTHING = TINY.replace("weight = 2\n", "").replace(
    '[stages.base.data.web]\nuse = "words"', '[stages.base.data.web]\nuse = "everything"'
)


@pytest.mark.parametrize(
    "written, expected",
    [
        ("whole = 3", 3),
        ("real = 3", 3.0),
        ("endless = inf", math.inf),
        ("flag = true", True),
        ('choice = "b"', "b"),
        ("choice = 3", 3),
        ("maybe = 4", 4),
        ('either = ["x", "y"]', ["x", "y"]),
        ("items = []", []),
        ("table = {b = 1, a = 2}", {"a": 2.0, "b": 1.0}),
        ("table.x = 1", {"x": 1.0}),
        ("anything = [1, {x = 'y'}]", [1, {"x": "y"}]),
    ],
)
def test_a_value_of_the_right_type_arrives_as_it_is(tmp_path: Path, written: str, expected: Any) -> None:
    key = written.split("=")[0].strip().split(".")[0]
    source = load(write(tmp_path, EVERYTHING.replace('use = "everything"', f'use = "everything"\n{written}')))
    found = getattr(source.stages["base"].config.data["web"].config, key)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "written, code",
    [
        ('whole = "4"', "E103"),
        ("whole = 4.0", "E103"),
        ("whole = 2.9", "E103"),
        ("whole = true", "E103"),
        ("whole = [1]", "E103"),
        ("whole = 11", "E104"),
        ("whole = -1", "E104"),
        ("real = true", "E103"),
        ('real = "1"', "E103"),
        ("real = nan", "E104"),
        ("real = inf", "E104"),
        ("flag = 1", "E103"),
        ('flag = "false"', "E103"),
        ("text = 1", "E103"),
        ('choice = "c"', "E103"),
        ("choice = 3.0", "E103"),
        ("maybe = 1.5", "E103"),
        ("either = 1", "E103"),
        ("either = [1]", "E103"),
        ('items = "12"', "E103"),
        ("items = [1, 2.0]", "E103"),
        ("items = {}", "E103"),
        ("table = 1", "E103"),
        ('table = {a = "1"}', "E103"),
        ("anything = 1979-05-27", "E103"),
        ("text = 1979-05-27", "E103"),
    ],
)
def test_nothing_is_coerced(tmp_path: Path, written: str, code: str) -> None:
    path = write(tmp_path, EVERYTHING.replace('use = "everything"', f'use = "everything"\n{written}'))
    with pytest.raises(InputError) as caught:
        load(path)
    assert [found.code for found in caught.value.diagnostics] == [code]
    assert caught.value.diagnostics[0].location is not None
    assert caught.value.diagnostics[0].location.text == written


def test_a_relative_path_starts_at_the_file_that_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "data.txt").write_text("abc")
    (tmp_path / "here.txt").write_text("abcd")
    text = TINY.replace(
        '[stages.base.data.web]\nuse = "words"', '[stages.base.data.web]\nuse = "text"\npath = "data.txt"'
    )
    write(inner, text, "base.toml")
    child = write(tmp_path, 'extends = "inner/base.toml"\n')
    recipe = load(child)
    assert recipe.stages["base"].config.data["web"].config.path == inner / "data.txt"
    assert recipe.stages["base"].fingerprints == {("stages", "base", "data", "web"): {"size": 3}}
    monkeypatch.chdir(tmp_path)
    changed = load(child, "stages.base.data.web.path=here.txt")
    assert changed.stages["base"].config.data["web"].config.path == tmp_path / "here.txt"


@pytest.mark.parametrize("written", [5, "x", [1], {"warmup_steps": 1}])
def test_no_value_of_a_key_is_a_config_class_which_is_a_table_of_its_own(written: Any) -> None:
    with pytest.raises(Mismatch):
        structure(written, ScheduleConfig | None)
