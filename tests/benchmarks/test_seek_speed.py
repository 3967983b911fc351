"""What it costs to go on in the middle of a shard of 250 million characters. The bound is a second, with no index yet.

uv run pytest tests/benchmarks/test_seek_speed.py --benchmark-enable --benchmark-only
"""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nanochat.data.shard_writer import ShardWriter
from nanochat_plugins.sources.data_file import DataFile
from nanochat_plugins.sources.hub_file import file_digest


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Documents of 50 to 900 made-up words, and how many there are."""
    chance = random.Random(0)
    words = ["".join(chance.choices("etaoinshrdlucmfw", k=chance.randint(2, 9))) for _ in range(30_000)]
    folder = tmp_path_factory.mktemp("shard")
    writer = ShardWriter(folder, shard_characters=250_000_000, group_rows=1_024)
    while not writer.written:
        writer.add(" ".join(chance.choices(words, k=chance.randint(50, 900))))
    return folder / writer.written[0].name, writer.written[0].documents


def data_file(path: Path) -> DataFile:
    return DataFile(path=path, digest="", column="text", separator="", longest=10_000_000)


def reached(path: Path, start: int) -> str:
    return next(data_file(path).documents(start, Counter()))


def test_the_last_document_without_an_index(
    benchmark: Any, shard: tuple[Path, int], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget() -> tuple[tuple[Path, int], dict[str, Any]]:
        monkeypatch.setenv("NANOCHAT_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        return (shard[0], shard[1] - 1), {}

    benchmark.pedantic(reached, setup=forget, rounds=5)


def test_the_last_document_after_it_was_read_once(
    benchmark: Any, shard: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOCHAT_DATA_DIR", str(tmp_path))
    assert sum(1 for _ in data_file(shard[0]).documents(0, Counter())) == shard[1]
    benchmark(reached, shard[0], shard[1] - 1)


def test_its_digest(benchmark: Any, shard: tuple[Path, int]) -> None:
    benchmark(file_digest, shard[0], "sha256:")
