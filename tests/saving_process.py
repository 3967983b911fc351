"""A process that saves and may be killed: small checkpoints one after another, each full of its own step's number.

python saving_process.py record FOLDER        two saves, the second of which prunes the first; says each when it stands
python saving_process.py kill FOLDER SEED N   N processes that save until they are killed; what each left, as JSON
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from nanochat.runtime import local_runtime
from nanochat.training.checkpoint import newest_valid
from nanochat.training.checkpoint_writer import CheckpointWriter
from nanochat.training.saves import Saves
from nanochat.training.snapshot import HostCopies, Snapshot, json_text

LONGEST_SECONDS = 0.2
"""From a process's first save to its end: some tens of saves."""


def snapshot(step: int, numbers: int, copies: HostCopies) -> Snapshot:
    """Three files of the step's number."""
    tensors = {name: {"weight": torch.full((numbers,), float(step))} for name in ("model", "optim-0")}
    return Snapshot(tensors=copies.of(tensors), texts={"state": json_text({"step": step})}, tokenizer=None)


def saved_step(folder: Path) -> int | None:
    """The step that a run would go on from, or None. AssertionError where a checkpoint that verifies is not its own."""
    notes: list[str] = []
    found = newest_valid(folder, local_runtime(), notes.append)
    assert notes == []
    if found is None:
        return None
    step = int(json.loads((found / "state.json").read_text())["step"])
    assert found.name == f"step_{step:06d}"
    for name in ("model", "optim-0"):
        assert set(load_file(found / f"{name}.safetensors")["weight"].tolist()) == {float(step)}
    return step


def save_on(folder: Path, first: int, acknowledged: int) -> None:
    """Save until killed; say each step on a pipe once it stands."""
    runtime, copies = local_runtime(), HostCopies(torch.device("cpu"))
    saves = Saves(runtime, background=True)
    for step in range(first, 1_000_000):
        saves.begin(CheckpointWriter(folder, step, runtime, kept=2), snapshot(step, 2**17, copies))
        saves.finish()
        os.write(acknowledged, step.to_bytes(8, "little"))


def killed(folder: Path, delay: float) -> dict[str, Any]:
    """Fork one that saves, kill it after `delay` seconds, and look."""
    before = saved_step(folder) or 0
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        save_on(folder, before + 1, writing)
    os.close(writing)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    said = b"".join(iter(lambda: os.read(reading, 65536), b""))
    os.close(reading)
    acknowledged = int.from_bytes(said[-8:], "little") or before
    cut_off = sorted(path.name[:8] for path in folder.glob(".*"))
    return {"acknowledged": acknowledged, "found": saved_step(folder) or 0, "cut_off": cut_off}


def main() -> None:
    mode, folder = sys.argv[1], Path(sys.argv[2])
    if mode == "record":
        runtime, copies = local_runtime(), HostCopies(torch.device("cpu"))
        saves = Saves(runtime, background=False)
        for step in (1, 2):
            saves.begin(CheckpointWriter(folder, step, runtime, kept=1), snapshot(step, 16, copies))
            os.write(1, f"saved {step}\n".encode())
    else:
        folder.mkdir()
        chance = random.Random(int(sys.argv[3]))
        results = [killed(folder, chance.uniform(0.0, LONGEST_SECONDS)) for _ in range(int(sys.argv[4]))]
        print(json.dumps(results))


if __name__ == "__main__":
    main()
