"""Training and encoding beside rustbpe, tokenizers and tiktoken, on the same 160 MB of English and code, in one run.

uv run pytest tests/benchmarks/test_bpe_speed.py --benchmark-enable --benchmark-only

The first run downloads three packages with apt-get, so it takes a Debian. Every round is a process of its own
(bpe_worker.py); the table at the end has the best round of each, its CPU time, and the peak of memory.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bpe_corpus import corpus, documents

from nanochat.home import data_dir
from nanochat.text.tokenizer import Tokenizer

WORKER = Path(__file__).parent / "bpe_worker.py"
PROCESSORS = os.cpu_count() or 1
ROUNDS = 3

Row = tuple[str, float, dict[str, float]]


@pytest.fixture(scope="module")
def text() -> Path:
    try:
        return corpus(data_dir() / "benchmarks" / "bpe")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the corpus cannot be built, which needs Debian's apt-get: {error}")


@pytest.fixture(scope="module")
def vocabulary(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary")
    Tokenizer.train(documents(text), vocab_size=32_768).save(folder)
    return folder


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[list[Row]]:
    rows: list[Row] = []
    yield rows
    lines = ["", "", "| | seconds | MB/s | CPU seconds | peak MB |", "| --- | --- | --- | --- | --- |"]
    for name, seconds, found in rows:
        rate = found["bytes"] / 1e6 / seconds
        lines.append(f"| {name} | {seconds:.2f} | {rate:.1f} | {found['cpu_s']:.2f} | {found['peak_mb']:.0f} |")
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\n".join(lines))


def measure(benchmark: Any, table: list[Row], name: str, *arguments: object) -> None:
    """Time a worker's work, from `go` to its answer; the best round goes to the table."""
    answers: list[dict[str, float]] = []
    command = [sys.executable, str(WORKER), *map(str, arguments)]

    def start() -> tuple[tuple[subprocess.Popen[str]], dict[str, Any]]:
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
        return (worker,), {}

    def work(worker: subprocess.Popen[str]) -> None:
        answers.append(json.loads(worker.communicate("go\n")[0]))

    benchmark.pedantic(work, setup=start, rounds=ROUNDS)
    seconds = min(benchmark.stats.stats.data)
    best = {key: min(answer[key] for answer in answers) for key in answers[0]}
    benchmark.extra_info.update(best)
    table.append((name, seconds, best))


@pytest.mark.parametrize("name", ["reading", "nanochat", "rustbpe", "tokenizers"])
def test_training(benchmark: Any, table: list[Row], text: Path, name: str) -> None:
    measure(benchmark, table, f"train: {name}", "train", name, text, PROCESSORS)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["nanochat", "tiktoken", "tokenizers"])
def test_encoding(benchmark: Any, table: list[Row], text: Path, vocabulary: Path, name: str, threads: int) -> None:
    label = f"encode: {name}, {threads} thread{'s' * (threads > 1)}"
    measure(benchmark, table, label, "encode", name, text, threads, vocabulary)
