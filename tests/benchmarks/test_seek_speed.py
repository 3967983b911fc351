"""What it costs to go on at the end of 160 MB of text. The bound is a second.

uv run pytest tests/benchmarks/test_seek_speed.py --benchmark-enable --benchmark-only
"""

import gzip
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from nanochat.data.shard_writer import ShardWriter
from nanochat_plugins.sources.data_file import DataFile, Reading
from nanochat_plugins.sources.digest_cache import file_digest

CHARACTERS = 160_000_000
FORMS = ["parquet", "jsonl", "txt", "jsonl.gz", "txt.gz", "jsonl.zst", "txt.zst"]

Written = dict[str, Path]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Documents of 50 to 900 made-up words."""
    chance = random.Random(0)
    words = ["".join(chance.choices("etaoinshrdlucmfw", k=chance.randint(2, 9))) for _ in range(30_000)]
    made, characters = [], 0
    while characters < CHARACTERS:
        made.append(" ".join(chance.choices(words, k=chance.randint(50, 900))))
        characters += len(made[-1])
    return made


@pytest.fixture(scope="module")
def files(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The same documents in each form."""
    folder = tmp_path_factory.mktemp("files")
    writer = ShardWriter(folder, shard_characters=2 * CHARACTERS, group_rows=1_024)
    for text in texts:
        writer.add(text)
    writer.close()
    plain = {
        "jsonl": "".join(json.dumps({"text": text}) + "\n" for text in texts).encode(),
        "txt": "\n\n".join(texts).encode(),
    }
    made = {"parquet": folder / writer.written[0].name}
    for form, content in plain.items():
        made |= {name: folder / f"a.{name}" for name in (form, f"{form}.gz", f"{form}.zst")}
        made[form].write_bytes(content)
        made[f"{form}.gz"].write_bytes(gzip.compress(content, compresslevel=6))
        with pa.output_stream(str(made[f"{form}.zst"]), compression="zstd") as stream:
            stream.write(content)
    return made


def data_file(path: Path) -> DataFile:
    reading = Reading(column="text", separator="\n\n", longest=10_000_000)
    return DataFile(path=path, digest=path.name, reading=reading)


def reached(path: Path, start: int) -> str:
    return next(data_file(path).documents(start, Counter()))


@pytest.mark.parametrize("form", FORMS)
def test_the_last_document_that_was_never_read_before(
    benchmark: Any,
    files: Written,
    texts: list[str],
    form: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forget() -> tuple[tuple[Path, int], dict[str, Any]]:
        monkeypatch.setenv("NANOCHAT_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        return (files[form], len(texts) - 1), {}

    assert benchmark.pedantic(reached, setup=forget, rounds=3) == texts[-1]


@pytest.mark.parametrize("form", FORMS)
def test_the_last_document_after_it_was_read_once(
    benchmark: Any,
    files: Written,
    texts: list[str],
    form: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NANOCHAT_DATA_DIR", str(tmp_path))
    assert sum(1 for _ in data_file(files[form]).documents(0, Counter())) == len(texts)
    assert benchmark.pedantic(reached, (files[form], len(texts) - 1), rounds=5) == texts[-1]


def test_its_digest(benchmark: Any, files: Written, tmp_path_factory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def forget() -> tuple[tuple[Path], dict[str, Any]]:
        monkeypatch.setenv("NANOCHAT_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        return (files["jsonl"],), {}

    benchmark.pedantic(file_digest, setup=forget, rounds=3)
