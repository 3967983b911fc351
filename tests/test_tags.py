"""Tags: what checkpoints are called, where the name comes from, and what it finds."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_plugin import TINY, load, write

from nanochat.errors import InputError
from nanochat.running.find import find_checkpoint
from nanochat.running.keys import stage_keys
from nanochat.running.store import Store, checkpoint_folder

GPT2 = {"use": "gpt", "config": {"depth": 12, "dim": 768, "head_dim": 64, "n_head": 12, "n_kv_head": 12}}


def tags(recipe: Path, *overrides: str) -> list[str]:
    stages = load(recipe, *overrides).stages
    return [stages[name].config.tag for name in ("base", "sft")]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    return write(tmp_path, TINY)


# Where a tag comes from


def test_a_tag_is_depth_width_and_heads_of_the_model_and_finetuning_inherits_it(recipe: Path) -> None:
    assert tags(recipe) == ["d2_w128_h2"] * 2
    assert tags(recipe, "stages.base.model.depth=20") == ["d20_w1280_h20"] * 2


def test_a_tag_that_is_set_is_inherited_until_another_is_set(recipe: Path) -> None:
    assert tags(recipe, "stages.base.tag=best") == ["best", "best"]
    assert tags(recipe, "stages.base.tag=best", "stages.sft.tag=chatty") == ["best", "chatty"]


def test_setting_a_tag_changes_no_key(recipe: Path) -> None:
    assert stage_keys(load(recipe, "stages.base.tag=best")) == stage_keys(load(recipe))


@pytest.mark.parametrize("wrong", ["a b", "a/b", "a@4", "", "-x", "x" * 65])
def test_a_tag_is_a_bare_name(recipe: Path, wrong: str) -> None:
    with pytest.raises(InputError, match=r"E104.*stages\.base\.tag") as refused:
        load(recipe, f'stages.base.tag="{wrong}"')
    assert "it is a name: letters, digits, `_` and `-`, at most 64" in str(refused.value)


@pytest.mark.parametrize("kept, expected", [({"tag": "older"}, "older"), ({}, "d12_w768_h12")])
def test_a_checkpoint_on_disk_hands_on_its_tag_and_one_from_before_tags_its_models_shape(
    recipe: Path, kept: dict[str, str], expected: str
) -> None:
    folder = recipe.parent / "checkpoint"
    folder.mkdir()
    model = {"use": "gpt", "config": {**GPT2["config"], "vocab_size": 512}}  # type: ignore[dict-item]
    (folder / "meta.json").write_text(json.dumps({"model": model, **kept}))
    recipe.write_text(TINY.replace('init = "stage:base"', 'init = "path:checkpoint"'))
    assert tags(recipe)[1] == expected


# What a tag finds


def result(stage: str, key: str, *, steps: int, tag: str | None, finished: str | None) -> Path:
    """A stage's folder with a checkpoint; without a record where it is not finished."""
    folder = Store().folder(stage, key)
    folder.open({"stage": stage})
    checkpoint = checkpoint_folder(folder.path, steps)
    checkpoint.mkdir(parents=True)
    named: dict[str, Any] = {} if tag is None else {"tag": tag}
    (checkpoint / "meta.json").write_text(json.dumps(named))
    if finished:
        about = {"produces": "checkpoint", "artifact": f"checkpoints/{checkpoint.name}", "finished": finished}
        folder.write_record({**about, **named})
    return checkpoint


@pytest.fixture
def tagged(recipe: Path) -> dict[str, Path]:
    return {
        "base": result("base", "a" * 64, steps=5, tag="d2", finished="2026-01-01"),
        "sft": result("sft", "b" * 64, steps=7, tag="d2", finished="2026-01-02"),
        "cut": result("base", "c" * 64, steps=3, tag="d2", finished=None),
        "old": result("base", "d" * 64, steps=9, tag=None, finished="2025-01-01"),
    }


def test_a_tag_finds_the_newest_finished_checkpoint_and_with_a_step_any_that_has_it(tagged: dict[str, Path]) -> None:
    assert find_checkpoint("d2") == tagged["sft"]
    assert find_checkpoint("@7") == tagged["sft"]
    assert find_checkpoint("d2@5") == tagged["base"]
    assert find_checkpoint("d2@3") == tagged["cut"]


def test_a_checkpoint_without_a_tag_is_found_by_its_key(tagged: dict[str, Path]) -> None:
    assert find_checkpoint("dddddddd") == find_checkpoint("d" * 12) == tagged["old"]


def test_the_beginning_of_two_keys_is_unclear(tagged: dict[str, Path]) -> None:
    result("base", "d" * 8 + "e" * 56, steps=1, tag=None, finished="2026-01-01")
    with pytest.raises(InputError, match=r"E405.*`dddddddd` may mean a key \(base-dddddddd\w*, base-dddddddd\w*\)"):
        find_checkpoint("dddddddd")


def test_an_unknown_name_is_answered_with_near_ones(tagged: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"E405(?s:.)*did you mean `sft-bbbbbbbb`"):
        find_checkpoint("stf-bbbbbbbb")


def test_a_checkpoint_that_is_not_finished_is_offered_with_its_step(recipe: Path) -> None:
    result("base", "c" * 64, steps=3, tag="d2", finished=None)
    with pytest.raises(InputError, match=r"E405(?s:.)*is not finished: base-cccccccc@3"):
        find_checkpoint("d2")
