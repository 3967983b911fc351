"""Processes that are killed, and machines that stop, in a save: the older or the newer checkpoint is left."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from crash_replay import CALLS, Disk
from patience import PATIENCE
from saving_process import saved_step

from nanochat.errors import StageError
from nanochat.training.checkpoint_writer import WRITING
from nanochat.training.manifest import checkpoints, verify

PROCESS = Path(__file__).with_name("saving_process.py")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("kills", [20, pytest.param(300, marks=pytest.mark.slow)])
def test_killed_at_any_moment_of_its_saves_a_process_leaves_the_last_checkpoint_or_the_next(
    kills: int, tmp_path: Path
) -> None:
    """Each is killed by SIGKILL 0 to 0.2 seconds after it began to save, and the next goes on in the same folder."""
    command = [sys.executable, str(PROCESS), "kill", str(tmp_path / "checkpoints"), "1", str(kills)]
    ran = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE)
    assert ran.returncode == 0, ran.stderr
    results = json.loads(ran.stdout)
    assert len(results) == kills
    for result in results:
        assert result["found"] - result["acknowledged"] in (0, 1)
    assert any(WRITING[:8] in result["cut_off"] for result in results), "no kill fell into a save"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the system calls of two saves, the second of which prunes the first."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    folder = tmp_path_factory.mktemp("recorded") / "checkpoints"
    log = folder.with_name("log")
    tracing = [strace, "-y", "-xx", "-s", "1000000", "-e", f"trace={CALLS}", "-e", "status=successful", "-o", str(log)]
    command = [*tracing, sys.executable, str(PROCESS), "record", str(folder)]
    ran = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE)
    if "PTRACE" in ran.stderr or "ptrace" in ran.stderr:
        pytest.skip(f"processes cannot be traced here: {ran.stderr.splitlines()[0]}")
    assert ran.stdout == "saved 1\nsaved 2\n", ran.stderr
    return folder, log.read_text()


def test_a_machine_that_stops_anywhere_in_a_save_leaves_a_whole_checkpoint_the_older_or_the_newer(
    recorded: tuple[Path, str], tmp_path: Path
) -> None:
    """Unsynced data dropped, unsynced names dropped and reordered, after each system call of two saves."""
    folder, log = recorded
    points, states = replay(folder, log, tmp_path)
    assert points > 40
    assert states > 150


@pytest.mark.parametrize("name", ["model.safetensors>", "MANIFEST.json>", ".writing_000002>", "/checkpoints>"])
def test_a_sync_that_a_save_left_out_would_be_found(name: str, recorded: tuple[Path, str], tmp_path: Path) -> None:
    folder, log = recorded
    written = "".join(char if char == ">" else f"\\x{ord(char):02x}" for char in name)
    kept = [line for line in log.splitlines() if not (line.startswith("fsync(") and written in line)]
    assert len(kept) < len(log.splitlines())
    with pytest.raises((AssertionError, StageError)):
        replay(folder, "\n".join(kept), tmp_path)


def replay(recorded: Path, log: str, tmp_path: Path) -> tuple[int, int]:
    """Read what every crash leaves; how many system calls there were, and how many different states after them.

    AssertionError, StageError where a checkpoint is not whole, not the last that was acknowledged, nor the next.
    """
    disk, chance, acknowledged, points = Disk(recorded), random.Random(1), 0, 0
    seen: set[tuple[object, ...]] = set()
    for said in disk.replay(log):
        points += 1
        acknowledged += said.startswith("saved")
        for crash in disk.crashes(chance):
            state = (acknowledged, *sorted(crash.items()))
            if state not in seen:
                seen.add(state)
                folder = tmp_path / str(len(seen))
                materialise(crash, folder)
                for checkpoint in checkpoints(folder):
                    verify(checkpoint)
                assert (saved_step(folder) or 0) - acknowledged in (0, 1)
                shutil.rmtree(folder)
    assert acknowledged == 2
    return points, len(seen)


def materialise(crash: dict[Path, bytes | None], folder: Path) -> None:
    """Make a crash's folder."""
    folder.mkdir()
    for path, content in crash.items():
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)
