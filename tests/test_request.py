"""What a command line asks of a run, against a recipe: a misspelt stage is named with its option, and what is near."""

from pathlib import Path
from typing import Any

import pytest
from tiny_plugin import TINY, load, write

from nanochat.errors import InputError
from nanochat.running.request import Request


@pytest.mark.parametrize(
    "asked, option",
    [
        ({"fresh": ["bse"]}, "--fresh bse"),
        ({"until": "bse"}, "--until bse"),
        ({"start": "bse"}, "--from bse"),
        ({"resume": "bse@3"}, "--resume bse"),
    ],
)
def test_a_misspelt_stage_suggests_the_right_one(tmp_path: Path, asked: dict[str, Any], option: str) -> None:
    recipe = write(tmp_path, TINY)
    with pytest.raises(InputError) as caught:
        Request(recipe=recipe, **asked).back(load(recipe))
    (found,) = caught.value.diagnostics
    assert found.message == f"{option}: the recipe has no stage `bse`"
    assert (found.code, found.label, found.help) == ("E407", "did you mean `base`?", "its stages are tok, base, sft")


def test_every_misspelt_stage_is_told_at_once(tmp_path: Path) -> None:
    recipe = write(tmp_path, TINY)
    with pytest.raises(InputError) as caught:
        Request(recipe=recipe, fresh=["bse", "tok", "x"], until="sfd").back(load(recipe))
    assert [found.message.partition(":")[0] for found in caught.value.diagnostics] == [
        "--fresh bse",
        "--fresh x",
        "--until sfd",
    ]
