"""`store:KEY`: what a finished stage left in the store, named by its key."""

import json
from pathlib import Path

import pytest
from tiny_plugin import TINY, load, refused, write

from nanochat.running.keys import stage_keys

KEY = "ab" * 32
OTHER = "ab" * 8 + "cd" * 24


def finished(home: Path, key: str, produces: str) -> None:
    folder = home / "store" / f"any-{key[:20]}"
    (folder / "made").mkdir(parents=True)
    record = {"key": key, "produces": produces, "artifact": "made"}
    (folder / "record.json").write_text(json.dumps(record))


def test_a_key_of_the_store_is_looked_up_and_its_kind_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    path = write(
        tmp_path, TINY.replace('"stage:tok"', f'"store:{KEY[:20]}"').replace("depth = 2", "depth = 2\nvocab_size = 512")
    )
    assert refused(path)[0].code == "E110"
    finished(tmp_path, OTHER, "checkpoint")
    assert refused(path, f"stages.base.tokenizer=store:{OTHER}")[0].code == "E111"
    finished(tmp_path, KEY, "tokenizer")
    recipe = load(path, f"stages.base.tokenizer=store:{KEY}")
    assert stage_keys(load(path)) == stage_keys(recipe)
    assert load(path).values["stages", "base", "tokenizer"].value == f"store:{KEY}"
    assert recipe.stages["base"].config.tokenizer.path == tmp_path / "store" / f"any-{KEY[:20]}" / "made"
    (several,) = refused(path, f"stages.base.tokenizer=store:{KEY[:12]}")
    assert several.code == "E110"
    assert OTHER in several.help


def test_a_key_of_the_store_and_the_stage_that_made_it_give_one_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    path = write(tmp_path, TINY.replace("depth = 2", "depth = 2\nvocab_size = 512"))
    keys = stage_keys(load(path))
    finished(tmp_path, keys["tok"], "tokenizer")
    assert stage_keys(load(path, f"stages.base.tokenizer=store:{keys['tok'][:8]}"))["base"] == keys["base"]


def test_the_result_of_a_stage_that_trains_is_no_tokenizer_though_its_checkpoints_carry_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    path = write(tmp_path, TINY.replace("depth = 2", "depth = 2\nvocab_size = 512"))
    finished(tmp_path, KEY, "checkpoint")
    made = tmp_path / "store" / f"any-{KEY[:20]}" / "made"
    for name in ("meta.json", "tokenizer.json"):
        (made / name).write_text("{}")
    for reference in (f"store:{KEY}", f"path:{made.parent}"):
        (error,) = refused(path, f"stages.base.tokenizer={reference}")
        assert (error.code, "checkpoint" in error.message) == ("E111", True)
    assert load(path, f"stages.base.tokenizer=path:{made}").stages["base"].config.tokenizer.path == made
