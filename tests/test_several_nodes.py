"""One stage on several machines: real runs in two network namespaces, and what is refused before anything starts."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import PATIENCE
from two_hosts import COMMAND, TwoHosts, two_hosts

RECIPE = """
format = 1
name = "two"
[hardware]
device = "cpu"
nodes = 2
nproc_per_node = 1
rendezvous = "10.201.77.1:29500"
network_interface = "wire"
rendezvous_timeout = 60
timeout_seconds = 600
restarts = 0
[stages.tok]
use = "tokenizer"
vocab_size = 300
[stages.tok.hardware]
launcher = "local"
nodes = 1
[stages.tok.data.stories]
use = "stories"
size = 200
[stages.base]
use = "pretrain"
tokenizer = "stage:tok"
steps = 12
total_batch_size = 512
device_batch_size = 2
packing_buffer = 8
lanes = 2
log_every = 1
checkpoint_every = 4
[stages.base.model]
use = "gpt"
depth = 1
dim = 32
head_dim = 16
sequence_len = 64
[stages.base.data.stories]
use = "stories"
size = 200
[stages.base.optim.all]
use = "adamw"
match = "*"
"""
ONE_HOST = ("--set=hardware.nodes=1", "--set=hardware.nproc_per_node=2")


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    with two_hosts() as made:
        yield made


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "two.toml"
    path.write_text(RECIPE)
    return path


def here(home: Path, recipe: Path, *options: str) -> str:
    """The output of nanochat-run on this machine, which succeeds."""
    environment = os.environ | {"NANOCHAT_HOME": str(home), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*COMMAND, str(recipe), *options], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_node_that_nobody_calls_says_where_it_waited_and_what_to_do(recipe: Path, tmp_path: Path) -> None:
    environment = os.environ | {"NANOCHAT_HOME": str(tmp_path / "home")}
    short = ["--node-rank", "1", "--set", "hardware.rendezvous_timeout=10"]
    done = subprocess.run([*COMMAND, str(recipe), *short], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"waiting for the first node to call, in {tmp_path}/home/runs/two-" in done.stdout
    assert "error[E404]: nobody has begun two-" in done.stderr and "within 10 seconds" in done.stderr
    assert "all nodes must see the same NANOCHAT_HOME" in done.stderr


def test_a_rank_that_no_node_has_is_refused(recipe: Path, tmp_path: Path) -> None:
    environment = os.environ | {"NANOCHAT_HOME": str(tmp_path / "home")}
    done = subprocess.run([*COMMAND, str(recipe), "--node-rank", "2"], env=environment, capture_output=True, text=True)
    assert (done.returncode, "E407" in done.stderr, "--node-rank 2: nodes = 2" in done.stderr) == (2, True, True)
    one = ["--node-rank", "1", "--set", "hardware.nodes=1"]
    done = subprocess.run([*COMMAND, str(recipe), *one], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no stage is started by a command on each of several nodes" in done.stderr


def stage(home: Path) -> Path:
    (found,) = (home / "store").glob("base-*")
    return found


def losses(home: Path) -> dict[int, str]:
    lines = [json.loads(line) for line in (stage(home) / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: float(line["loss"]).hex() for line in lines if "loss" in line}


STARTED = """
import os, sys
from pathlib import Path
from nanochat.hardware import Hardware
from nanochat.running.launcher import Launch
from nanochat_plugins.launchers.torchrun import build
wire = {"rendezvous": "10.201.77.1:29500", "network_interface": "wire", "rendezvous_backend": sys.argv[1]}
launcher = build(Hardware(nodes=2, nproc_per_node=1, device="cpu", dtype="float32", **wire))
rank, here = 0 if launcher.is_first_node() else None, Path(sys.argv[2])
launch = Launch(worker=sys.argv[3:], stage="a", run=here, folder=here, attempt="a-1", node_rank=rank)
command = launcher.command(launch)
os.execvpe(command[0], command, os.environ | launcher.environment())
"""
SUM = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo")
total = torch.ones(1) * 2 ** dist.get_rank()
dist.all_reduce(total)
print(os.environ["MASTER_ADDR"], total.item(), flush=True)
dist.destroy_process_group()
"""


@pytest.mark.parametrize("backend", ["c10d", pytest.param("static", marks=pytest.mark.slow)])
def test_ranks_on_two_machines_meet_where_the_first_one_is(hosts: TwoHosts, tmp_path: Path, backend: str) -> None:
    (tmp_path / "sum.py").write_text(SUM)
    worker = [sys.executable, "-P", str(tmp_path / "sum.py")]
    agents = [hosts.spawn(host, [sys.executable, "-c", STARTED, backend, str(tmp_path), *worker]) for host in (1, 0)]
    outputs = [agent.communicate(timeout=PATIENCE)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], "\n".join(outputs)
    for output in outputs:
        address, total = output.split()[-2:]
        assert address in hosts.addresses and total == "3.0"


@pytest.mark.slow
def test_two_machines_that_get_the_same_command_train_as_one_machine_with_two_processes(
    hosts: TwoHosts, recipe: Path, tmp_path: Path
) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"
    here(alone, recipe, "--until", "tok")
    shutil.copytree(alone, together)
    runners = [hosts.start(host, together, recipe) for host in (1, 0)]
    outputs = [runner.communicate(timeout=PATIENCE)[0] for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0], "\n".join(outputs)
    assert "base: joined" in outputs[0] and "base: done in" in outputs[1]
    here(alone, recipe, *ONE_HOST)
    assert list(losses(together)) == list(range(1, 13))
    assert losses(together) == losses(alone)


@pytest.mark.slow
def test_a_cut_network_ends_both_with_a_clear_error_and_the_same_command_goes_on_when_it_is_mended(
    hosts: TwoHosts, recipe: Path, tmp_path: Path
) -> None:
    home, longer = tmp_path / "home", ("--set", "stages.base.steps=600", "--set", "stages.base.checkpoint_every=50")
    here(home, recipe, "--until", "tok", *longer)
    shutil.copytree(home, tmp_path / "undisturbed")
    short = "--set=hardware.timeout_seconds=30"
    runners = [hosts.start(host, home, recipe, *longer, short) for host in (0, 1)]
    wait_for_step(home, 60)
    hosts.wire("down")
    outputs = [runner.communicate(timeout=PATIENCE)[0] for runner in runners]
    assert [runner.returncode for runner in runners] == [1, 1], "\n".join(outputs)
    assert "stage `base`" in outputs[0] and "lost the connection to the others: " in outputs[0]
    assert "the run has failed" in outputs[1]
    hosts.wire("up")
    runners = [hosts.start(host, home, recipe, *longer) for host in (0, 1)]
    outputs = [runner.communicate(timeout=PATIENCE)[0] for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0], "\n".join(outputs)
    assert "base: resume" in outputs[0]
    here(tmp_path / "undisturbed", recipe, *longer, *ONE_HOST)
    assert losses(home) == losses(tmp_path / "undisturbed")


@pytest.mark.slow
def test_a_stop_on_the_second_machine_stops_both_in_order(hosts: TwoHosts, recipe: Path, tmp_path: Path) -> None:
    home, longer = tmp_path / "home", ("--set", "stages.base.steps=5000")
    runners = [hosts.start(host, home, recipe, *longer) for host in (0, 1)]
    wait_for_step(home, 10)
    runners[1].send_signal(signal.SIGTERM)
    outputs = [runner.communicate(timeout=PATIENCE)[0] for runner in runners]
    assert [runner.returncode for runner in runners] == [75, 75], "\n".join(outputs)
    assert "stopped base at step" in outputs[0]
    assert "stopping base after this step" in outputs[1] and "the same command on every node goes on" in outputs[1]
    assert max(losses(home)) == max(int(path.name[5:]) for path in (stage(home) / "checkpoints").glob("step_*"))


def wait_for_step(home: Path, step: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = list((home / "store").glob("base-*/metrics.jsonl"))
        if found and f'"step":{step}' in found[0].read_text().replace(" ", ""):
            return
        time.sleep(0.1)
    raise AssertionError(f"step {step} was not reached")
