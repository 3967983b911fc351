"""`nanochat data tokenize`: the pretraining text of a recipe as tokens on disk, which training then reads."""

import json
from pathlib import Path
from typing import Any

import pytest

from nanochat.cli.main import main
from nanochat.data.pretrain_loader import PretrainLoader
from nanochat.data.token_cache import TokenCache
from nanochat.text.tokenizer import Tokenizer
from nanochat_plugins.sources.stories import Stories, StoriesConfig

RECIPE = """
format = 1
name = "little"
[hardware]
device = "cpu"
[stages.base]
use = "pretrain"
tokenizer = "path:tok"
steps = 10
[stages.base.model]
use = "gpt"
depth = 2
[stages.base.data.first]
use = "stories"
size = 100
[stages.base.data.second]
use = "stories"
size = 50
seed = 1
[stages.base.optim.all]
use = "adamw"
match = "*"
"""
SIZES = {"first": StoriesConfig(size=100), "second": StoriesConfig(size=50, seed=1)}


@pytest.fixture
def tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tokenizer:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("recipe.toml").write_text(RECIPE)
    made = Tokenizer.train(texts("first"), vocab_size=400)
    made.save(Path("tok"))
    return made


def texts(name: str) -> list[str]:
    source = Stories(SIZES[name])
    return [text for shard in source.shards("train") for text in source.documents(shard)]


def call(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["data", "tokenize", "recipe.toml", *arguments])
    found = capsys.readouterr()
    assert ended.value.code == code, found.err
    return found.err if code else found.out


def test_every_source_is_tokenised_once_and_its_tokens_are_counted(
    tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = {name: sum(1 + len(ids) for ids in tokenizer.encode_batch(texts(name))) for name in SIZES}
    said = call(capsys)
    for name, count in counts.items():
        assert f"base.{name} train: {count:,} tokens\n" in said
    assert f"{sum(counts.values()):,} tokens, {2 * sum(counts.values()) / 1000:.1f} kB on disk" in said
    manifests = list(Path("home/data/tokens").rglob("manifest.json"))
    before = [path.stat().st_mtime_ns for path in manifests]
    assert call(capsys) == said
    assert [path.stat().st_mtime_ns for path in manifests] == before
    assert sorted(json.loads(path.read_text())["ids"] for path in manifests) == sorted(counts.values())


def test_one_source_can_be_named_and_a_misspelt_one_gets_a_suggestion(
    tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    said = call(capsys, "--source", "base.second")
    assert "base.first" not in said
    assert "did you mean `base.second`" in call(capsys, "--source", "base.secnd", code=2)


def test_a_tokenizer_that_is_not_trained_yet_is_told(tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    tok = '[stages.tok]\nuse = "tokenizer"\nvocab_size = 400\n[stages.tok.data.first]\nuse = "stories"\n'
    Path("recipe.toml").write_text(RECIPE.replace("path:tok", "stage:tok") + tok)
    said = call(capsys, code=2)
    assert "error[E405]: the tokenizer of stage `base` (stage:tok) is not trained yet" in said
    assert "recipe.toml --until tok" in said


def test_training_then_reads_no_text(
    tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call(capsys, "--source", "base.first")
    read: list[Any] = []
    monkeypatch.setattr(Stories, "documents", lambda self, shard, start=0: read.append(shard) or iter(()))
    assert TokenCache(tokenizer).find(Stories(SIZES["first"]).shards("train")[0]) is not None
    loader = PretrainLoader(
        {"first": (Stories(SIZES["first"]), 1.0)},
        tokenizer,
        rows=4,
        sequence_len=64,
        packing="best_fit",
        buffer=10,
        lanes=2,
    )
    for _ in range(50):
        loader.next_batch()
    assert read == []
