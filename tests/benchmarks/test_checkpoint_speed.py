"""How long a save holds the training up: written beside it no longer than the copy takes, against in its way.

uv run pytest tests/benchmarks/test_checkpoint_speed.py --benchmark-enable --benchmark-only

The size is that of the weights and muon's momentum of a d12, 2.3 GB, which are held twice; as much again is written.
What counts are the ratios within one run: a disk's speed is its own. Two cores of an Intel Xeon (2.5 GHz) that twenty
other processes wanted said, least to most of three rounds: the copy alone 4.14 to 4.32 s, a save beside the training
4.11 to 4.65 s, one in its way 73 to 87 s.
"""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from nanochat.runtime import local_runtime
from nanochat.training.checkpoint_writer import CheckpointWriter
from nanochat.training.saves import Saves
from nanochat.training.snapshot import HostCopies, Snapshot, Tensors
from nanochat.training.tensor_file import write_tensors

NUMBERS = 286_000_000
"""Parameters of a d12."""
TENSORS = 80
ROUNDS = 3


@pytest.fixture(scope="module")
def live() -> Tensors:
    """What a run holds: weights and state, in as many tensors as a d12 has."""
    pieces = {file: torch.randn(NUMBERS).chunk(TENSORS) for file in ("model", "optim-0")}
    return {file: {str(number): piece for number, piece in enumerate(its)} for file, its in pieces.items()}


@pytest.fixture(scope="module")
def copies(live: Tensors) -> HostCopies:
    """Memory that was copied into before, as it was at every save but the first."""
    made = HostCopies(torch.device("cpu"))
    made.of(live)
    return made


def mark(benchmark: Any, n_bytes: int, seconds: float) -> None:
    benchmark.extra_info["MB/s"] = round(n_bytes / seconds / 1e6)


def bytes_of(live: Tensors) -> int:
    return sum(tensor.nbytes for its in live.values() for tensor in its.values())


def test_the_copy_alone(benchmark: Any, live: Tensors, copies: HostCopies) -> None:
    benchmark.pedantic(copies.of, args=(live,), rounds=ROUNDS)
    mark(benchmark, bytes_of(live), benchmark.stats["min"])


@pytest.mark.parametrize("background", [True, False], ids=["beside the training", "in its way"])
def test_a_save(background: bool, benchmark: Any, live: Tensors, copies: HostCopies, tmp_path: Path) -> None:
    """From the step's end until the next may begin; the save itself ends before the next one begins."""
    runtime = local_runtime()
    saves, steps = Saves(runtime, background=background), iter(range(1, 100))

    def settled() -> None:
        saves.finish()

    def save() -> None:
        writer = CheckpointWriter(tmp_path, next(steps), runtime, kept=1)
        snapshot = Snapshot(tensors=copies.of(live) if background else live, texts={}, tokenizer=None)
        writer.require_room(snapshot.n_bytes)
        saves.begin(writer, snapshot)

    benchmark.pedantic(save, setup=settled, rounds=ROUNDS)
    saves.finish()
    mark(benchmark, bytes_of(live), benchmark.stats["min"])


def test_a_file_written_and_hashed(benchmark: Any, live: Tensors, tmp_path: Path) -> None:
    benchmark.pedantic(write_tensors, args=(live["model"], tmp_path / "model.safetensors"), rounds=ROUNDS)
    mark(benchmark, 4 * NUMBERS, benchmark.stats["min"])


def test_the_hash_alone(benchmark: Any, live: Tensors) -> None:
    (first, *_) = live["model"].values()
    content = first.numpy().data
    benchmark.pedantic(lambda: hashlib.sha256(content).hexdigest(), rounds=ROUNDS)
    mark(benchmark, first.nbytes, benchmark.stats["min"])
