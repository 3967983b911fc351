"""Two real processes save beside their training, and one, or two, go on: a checkpoint needs the files of all ranks.

The short form of what test_shards.py compares at length; both take the runs of sharded_run.py.
"""

import errno
import json
import shutil
import time
from contextlib import nullcontext
from pathlib import Path
from threading import Event

import attrs
import pytest
import torch
from ranks import run_on_ranks
from safetensors.torch import load_file
from saving_process import snapshot
from sharded_run import Outcome, train_on

from nanochat.exchange.checkpoint_folder import copy_model
from nanochat.runtime import Runtime, local_runtime
from nanochat.text.tokenizer import Tokenizer
from nanochat.training.checkpoint import newest_valid
from nanochat.training.checkpoint_writer import CheckpointWriter
from nanochat.training.manifest import checkpoints, verify
from nanochat.training.saves import Saves
from nanochat.training.snapshot import HostCopies, Snapshot

MODES = ("none", "optimizer", "full")
DAMAGED = ("model-0.safetensors", "model-1.safetensors", "optim-0.safetensors", "meta.json", "MANIFEST.json")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks left that did all of `on_two_ranks`."""
    folder = tmp_path_factory.mktemp("two")
    Tokenizer.train(["to be or not to be, that is the question " * 20], vocab_size=270).save(folder / "tok")
    run_on_ranks(2, folder, on_two_ranks, folder, shard="none")
    return folder


def on_two_ranks(runtime: Runtime, folder: Path) -> None:
    late_rank(runtime, folder / "late")
    failing_rank(runtime, folder / "failing")
    for shard in MODES:
        its = attrs.evolve(runtime, shard=shard)
        determinism = "fixed" if shard == "full" else "elastic"
        train_on(its, folder / shard, folder / "tok", until=6, checkpoint_every=2, determinism=determinism)
    for file in DAMAGED:
        choosing_ranks(runtime, folder, file)


def choosing_ranks(runtime: Runtime, folder: Path, file: str) -> None:
    """A file is damaged, which one of the ranks looks at; both go back to the checkpoint before."""
    copies, notes = folder / f"without {file}" / "checkpoints", list[str]()
    if runtime.is_main:
        shutil.copytree(folder / "full/checkpoints", copies)
        path = copies / "step_000007" / file
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    runtime.barrier()
    assert newest_valid(copies, runtime, notes.append) == copies / "step_000006"
    assert [file in note for note in notes] == ([True] if runtime.is_main else [])


def late_rank(runtime: Runtime, folder: Path) -> None:
    """Rank 1 is at its files for as long as five steps take; then it is through."""
    go_on, saves = Event(), Saves(runtime, background=True)

    class Late(CheckpointWriter):
        def write(self, snapshot: Snapshot) -> None:
            if not runtime.is_main:
                go_on.wait()
            super().write(snapshot)

    saves.begin(Late(folder, 3, runtime, kept=2), of_rank(runtime.rank))
    for _ in range(5):
        if not runtime.any(saves.writing):
            saves.commit()
        assert checkpoints(folder) == []
    go_on.set()
    while runtime.any(saves.writing):
        time.sleep(0.01)
    saves.commit()
    saves.finish()
    runtime.barrier()
    verify(folder / "step_000003")


def failing_rank(runtime: Runtime, folder: Path) -> None:
    """Rank 1 cannot write. It says so at its next step, and what rank 0 wrote is no checkpoint."""
    saves = Saves(runtime, background=True)

    class Failing(CheckpointWriter):
        def write(self, snapshot: Snapshot) -> None:
            if not runtime.is_main:
                raise OSError(errno.ENOSPC, "No space left on device", str(self.folder / "optim-1.safetensors"))
            super().write(snapshot)

    saves.begin(Failing(folder, 3, runtime, kept=2), of_rank(runtime.rank))
    expected = nullcontext() if runtime.is_main else pytest.raises(OSError, match=r"optim-1\.safetensors")
    with expected:
        while saves.writing:
            time.sleep(0.01)
    assert checkpoints(folder) == []
    runtime.barrier()


def of_rank(rank: int) -> Snapshot:
    """A file of the rank's own."""
    whole = snapshot(3, 16, HostCopies(torch.device("cpu")))
    return attrs.evolve(whole, tensors={f"optim-{rank}": whole.tensors["optim-0"]}, texts={})


def test_a_save_is_no_checkpoint_before_every_rank_is_through_nor_where_one_fails(two: Path) -> None:
    """The ranks have looked; what is left is theirs."""
    manifest = json.loads((two / "late/step_000003/MANIFEST.json").read_text())
    assert manifest["world_size"] == 2
    assert sorted(manifest["files"]) == ["optim-0.safetensors", "optim-1.safetensors"]
    assert checkpoints(two / "failing") == []


@pytest.mark.parametrize("shard", MODES)
def test_one_process_goes_on_with_what_two_saved_beside_their_training(shard: str, two: Path) -> None:
    determinism = "fixed" if shard == "full" else "elastic"
    assert [path.name for path in checkpoints(two / shard / "checkpoints")] == ["step_000006", "step_000007"]
    train_on(local_runtime(), two / f"{shard} alone", two / "tok", determinism=determinism)
    train_on(local_runtime(), two / shard, two / "tok", determinism=determinism)
    found, expected = Outcome.of(two / shard), Outcome.of(two / f"{shard} alone")
    assert found.losses.keys() == expected.losses.keys()
    if determinism == "elastic":
        assert found.losses == expected.losses
        assert all(torch.equal(found.weights[name], weight) for name, weight in expected.weights.items())
    else:
        for name, weight in expected.weights.items():
            torch.testing.assert_close(found.weights[name], weight, atol=2e-3, rtol=1e-3)


def test_what_processes_that_cut_the_model_saved_is_exported_as_one_whole_file(two: Path, tmp_path: Path) -> None:
    (saved,) = checkpoints(two / "without meta.json/checkpoints")
    parts = [(saved / f"model-{rank}.safetensors").stat().st_size for rank in range(2)]
    assert max(parts) < 0.6 * sum(parts), "each process wrote its own"
    assert not (saved / "model.safetensors").exists()
    copy_model(saved, tmp_path / "out")
    whole, alone = load_file(tmp_path / "out/model.safetensors"), Outcome.of(two / "none").weights
    assert {name: t.shape for name, t in whole.items()} == {name: t.shape for name, t in alone.items()}
    assert all(bool(torch.isfinite(tensor).all()) for tensor in whole.values())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "MANIFEST.json", "meta.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
