"""What several checkpoints are called that one server offers."""

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.cli.checkpoint_engine import model_name, model_names
from nanochat.serving.models import Models

SFT = "/home/store/sft-6807520b/checkpoints/"


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["/a/one", "/b/two"], ["one", "two"]),
        (["/a/ck", "/b/ck"], ["a:ck", "b:ck"]),
        (["/a/x/ck", "/b/x/ck", "/b/y/ck"], ["a:x:ck", "b:x:ck", "y:ck"]),
        ([SFT + "step_000010", "/b/other"], ["sft-6807520b", "other"]),
        ([SFT + "step_000010", SFT + "step_000020"], ["sft-6807520b@10", "sft-6807520b@20"]),
        (
            [SFT + "step_000010", "/old/store/sft-6807520b/checkpoints/step_000010"],
            ["home:store:sft-6807520b@10", "old:store:sft-6807520b@10"],
        ),
        ([SFT + "step_000010", "/b/sft-6807520b"], ["sft-6807520b@10", "b:sft-6807520b"]),
    ],
)
def test_names_that_collide_tell_apart_what_they_name_in_whatever_order(
    folders: Sequence[str], names: Sequence[str]
) -> None:
    expected = dict(zip(names, map(Path, folders), strict=True))
    for order in permutations(expected.items()):
        assert list(model_names(folder for _, folder in order).items()) == list(order)


def test_one_checkpoint_that_is_named_twice_is_served_once() -> None:
    assert model_names([Path("/a/ck"), Path("/a/ck")]) == {"ck": Path("/a/ck")}


@given(st.lists(st.lists(st.sampled_from(["a", "b", "a@1", "checkpoints", "step_1"]), min_size=1, max_size=5)))
def test_no_two_folders_have_one_name(parts: list[list[str]]) -> None:
    folders = {Path("/", *each) for each in parts}
    names = model_names(folders)
    assert set(names.values()) == folders and len(names) == len(folders)
    plain = {model_name(folder): folder for folder in folders}
    assert len(plain) < len(folders) or names == plain


def test_no_model_takes_the_place_of_another() -> None:
    models = Models()
    models.add("ck", [])
    with pytest.raises(AssertionError, match="two models are called ck"):
        models.add("ck", [])
