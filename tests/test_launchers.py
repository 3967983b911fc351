"""The launchers: the command lines and environments that start a stage's workers."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from nanochat.errors import InputError
from nanochat.hardware import Hardware, probe_machine
from nanochat.registry import load_registry
from nanochat.running.launcher import Launch, Launcher, OnEachNode

WORKER = ["/usr/bin/env", "python", "-m", "nanochat.running.worker", "--stage", "base"]


def hardware(**changes: object) -> Hardware:
    settings: dict[str, object] = {"nproc_per_node": 1, "device": "cpu", "dtype": "float32"}
    return Hardware(**(settings | changes))  # type: ignore[arg-type]


def build(name: str, **changes: object) -> Launcher:
    """A launcher as the runner builds it: through the registry."""
    builder: Callable[[Hardware], Launcher] = load_registry().object("launcher", name)
    return builder(hardware(**changes))


def launch(worker: Sequence[str] = WORKER, node_rank: int | None = 0) -> Launch:
    run, folder = Path("runs/mine"), Path("store/base-0")
    return Launch(worker=worker, stage="base", run=run, folder=folder, attempt="base-1", node_rank=node_rank)


def test_local_starts_the_worker_itself() -> None:
    assert build("local").command(launch()) == WORKER


def test_local_refuses_more_than_one_process() -> None:
    with pytest.raises(InputError, match=r"E115.*one process.*asks for 2"):
        build("local", nproc_per_node=2)


def test_torchrun_starts_the_ranks_of_one_machine_without_a_rendezvous_server() -> None:
    command = build("torchrun", nproc_per_node=4).command(launch())
    assert command[:4] == [sys.executable, "-P", "-m", "torch.distributed.run"]
    assert command[4:] == ["--standalone", "--nproc-per-node", "4", "--max-restarts", "0", "--no-python", *WORKER]


def rendezvous(rank: int | None, **changes: object) -> dict[str, str]:
    """What torchrun is told of the other nodes: option → value."""
    settings = {"nodes": 3, "nproc_per_node": 8, "rendezvous": "node0:29500", "rendezvous_timeout": 40}
    command = build("torchrun", **(settings | changes)).command(launch(node_rank=rank))
    words = command[4 : command.index("--nproc-per-node")]
    return dict(zip(words[::2], words[1::2], strict=True))


@pytest.mark.parametrize("rank, is_host", [(0, "true"), (1, "false"), (None, "false")])
def test_torchrun_joins_several_nodes_at_the_rendezvous_that_the_first_one_hosts(
    rank: int | None, is_host: str
) -> None:
    assert rendezvous(rank) == {
        "--nnodes": "3",
        "--rdzv-backend": "c10d",
        "--rdzv-endpoint": "node0:29500",
        "--rdzv-id": "base-1",
        "--rdzv-conf": f"is_host={is_host},join_timeout=40",
    }


def test_a_static_rendezvous_gives_each_node_its_rank() -> None:
    assert rendezvous(2, rendezvous_backend="static") == {
        "--nnodes": "3",
        "--rdzv-backend": "static",
        "--rdzv-id": "base-1",
        "--node-rank": "2",
        "--master-addr": "node0",
        "--master-port": "29500",
        "--rdzv-conf": "timeout=40",
    }
    assert rendezvous(None, rendezvous_backend="static", nodes=2)["--node-rank"] == "1"
    with pytest.raises(InputError, match=r"E407.*cannot tell which of 3 nodes this machine is[\s\S]*--node-rank"):
        rendezvous(None, rendezvous_backend="static")


def test_the_network_interface_is_told_to_gloo_nccl_and_torchrun() -> None:
    assert rendezvous(0, network_interface="lo")["--local-addr"] == "127.0.0.1"
    several = build("torchrun", nodes=2, rendezvous="node0:1", network_interface="lo").environment()
    assert (several["GLOO_SOCKET_IFNAME"], several["NCCL_SOCKET_IFNAME"]) == ("lo", "lo")
    assert "GLOO_SOCKET_IFNAME" not in build("torchrun", network_interface="lo").environment()
    with pytest.raises(
        InputError, match=r'E404.*network_interface = "nowhere0": this machine has none[\s\S]*it has .*lo'
    ):
        rendezvous(0, network_interface="nowhere0")


@pytest.mark.parametrize("host, first", [("127.0.0.1", True), (socket.gethostname(), True), ("192.0.2.1", False)])
def test_the_first_node_is_the_one_whose_address_the_rendezvous_names(host: str, first: bool) -> None:
    launcher = build("torchrun", nodes=2, rendezvous=f"{host}:29500")
    assert isinstance(launcher, OnEachNode)
    assert launcher.is_first_node() is first


@pytest.mark.parametrize(
    "place, wrong",
    [("", "2 nodes have no place to meet"), ("node0", '"node0" is no HOST:PORT'), ("a:99999", '"a:99999" is no HOST')],
)
def test_several_nodes_without_a_place_to_meet_are_refused(place: str, wrong: str) -> None:
    with pytest.raises(InputError, match=f"E115.*{wrong}"):
        build("torchrun", nodes=2, rendezvous=place)


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
    command = launcher.command(launch([sys.executable, "-c", RANK, str(tmp_path)]))
    environment = {**os.environ, **launcher.environment(), "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / str(rank)).read_text() for rank in (0, 1)] == ["0 0 2 passive", "1 1 2 passive"]
