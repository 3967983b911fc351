"""The launchers: the command lines and environments that start a stage's workers."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nanochat.errors import InputError
from nanochat.hardware import Hardware, probe_machine
from nanochat.registry import load_registry
from nanochat.running.launcher import Launcher

WORKER = ["/usr/bin/env", "python", "-m", "nanochat.running.worker", "--stage", "base"]


def hardware(**changes: object) -> Hardware:
    settings: dict[str, object] = {"nproc_per_node": 1, "device": "cpu", "dtype": "float32"}
    return Hardware(**(settings | changes))  # type: ignore[arg-type]


def build(name: str, **changes: object) -> Launcher:
    """A launcher as the runner builds it: through the registry."""
    builder: Callable[[Hardware], Launcher] = load_registry().object("launcher", name)
    return builder(hardware(**changes))


def test_local_starts_the_worker_itself() -> None:
    assert build("local").command(WORKER) == WORKER


def test_local_refuses_more_than_one_process() -> None:
    with pytest.raises(InputError, match=r"E115.*one process.*asks for 2"):
        build("local", nproc_per_node=2)


def test_torchrun_starts_the_ranks_of_one_machine_without_a_rendezvous_server() -> None:
    command = build("torchrun", nproc_per_node=4).command(WORKER)
    assert command[:4] == [sys.executable, "-P", "-m", "torch.distributed.run"]
    assert command[4:] == ["--standalone", "--nproc-per-node", "4", "--max-restarts", "0", "--no-python", *WORKER]


def test_torchrun_joins_several_nodes_at_the_rendezvous() -> None:
    command = build("torchrun", nodes=2, nproc_per_node=8, rendezvous="node0:29500").command(WORKER)
    assert "--standalone" not in command
    assert command[command.index("--nnodes") + 1] == "2"
    assert command[command.index("--rdzv-endpoint") + 1] == "node0:29500"
    with pytest.raises(InputError, match=r"E115.*2 nodes have no place to meet"):
        build("torchrun", nodes=2)


@pytest.mark.parametrize("name, processes", [("local", 1), ("torchrun", 2)])
def test_each_process_gets_its_share_of_the_cores_unless_the_user_says_otherwise(
    name: str, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(variable, raising=False)
    environment = build(name, nproc_per_node=processes).environment()
    assert environment["OMP_NUM_THREADS"] == str(max(1, probe_machine().cpu_cores // processes))
    assert environment["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert "OMP_NUM_THREADS" not in build(name, nproc_per_node=processes).environment()


RANK = """
import os, pathlib, sys
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "OMP_WAIT_POLICY")
(pathlib.Path(sys.argv[1]) / os.environ["RANK"]).write_text(" ".join(os.environ[name] for name in names))
"""


def test_torchrun_really_starts_every_rank(tmp_path: Path) -> None:
    launcher = build("torchrun", nproc_per_node=2)
    command = launcher.command([sys.executable, "-c", RANK, str(tmp_path)])
    environment = {**os.environ, **launcher.environment(), "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / str(rank)).read_text() for rank in (0, 1)] == ["0 0 2 passive", "1 1 2 passive"]
