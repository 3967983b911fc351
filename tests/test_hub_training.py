"""Real runs that read a hub of this machine: training begins before all is here, and a download that fails ends it."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import Answer, FakeHub, parquet, serving

from nanochat.registry import Registry
from nanochat.running.reporter import FileReporter, NotedWarnings
from nanochat.running.tracker import Audience

REPO = "someone/texts"
COMMAND = [sys.executable, "-c", "from nanochat.cli.main import run_main; run_main()"]
RECIPE = f"""
format = 1
name = "arriving"
[hardware]
device = "cpu"
launcher = "local"
[stages.tok]
use = "tokenizer"
vocab_size = 300
[stages.tok.data.stories]
use = "stories"
size = 200
[stages.base]
use = "pretrain"
tokenizer = "stage:tok"
steps = 24
total_batch_size = 1024
device_batch_size = 4
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
[stages.base.data.web]
use = "hub"
repo = "{REPO}"
[stages.base.optim.all]
use = "adamw"
match = "*"
[stages.base.evals.bpb]
use = "bpb"
tokens = 1_000
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """Four files of which each has about as many tokens as five steps read."""
    with serving() as found:
        text = "The quick brown fox jumps over the lazy dog again. " * 4
        found.publish(REPO, {f"{name}.parquet": parquet([f"{name}{n} {text}" for n in range(60)]) for name in "abcde"})
        yield found


def run(folder: Path, hub: FakeHub, *options: str) -> tuple[int, str]:
    (folder / "recipe.toml").write_text(RECIPE)
    environment = os.environ | {"NANOCHAT_HOME": str(folder / "home"), "HF_ENDPOINT": hub.endpoint, "NO_PROXY": "*"}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [*COMMAND, str(folder / "recipe.toml"), *options], env=environment, capture_output=True, text=True, timeout=200
    )
    return done.returncode, done.stdout + done.stderr


def metrics(folder: Path) -> list[dict[str, float]]:
    (path,) = (folder / "home" / "store").glob("base-*/metrics.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_training_begins_while_later_files_are_on_their_way(hub: FakeHub, tmp_path: Path) -> None:
    hub.next("d.parquet", Answer(pause=4.0))
    code, output = run(tmp_path, hub)
    assert code == 0, output
    (last,) = (tmp_path / "home" / "data").rglob("*/d.parquet")
    assert metrics(tmp_path)[0]["time"] < last.stat().st_mtime
    assert metrics(tmp_path)[-1]["step"] == 24


def test_what_a_plugin_warns_of_is_a_note_of_the_run_and_what_the_core_logs_is_not(tmp_path: Path) -> None:
    reporter = FileReporter("base", tmp_path, tmp_path / "events.jsonl", Audience("base", {}, Registry()))
    with NotedWarnings(reporter):
        for name in ("nanochat_acme.source", "nanochat.running", "urllib3"):
            logging.getLogger(name).warning("%s waits", name)
        logging.getLogger("nanochat_acme.source").info("and nothing else")
    logging.getLogger("nanochat_acme.source").warning("afterwards")
    notes = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(note["event"], note["stage"], note["text"]) for note in notes] == [
        ("note", "base", "nanochat_acme.source waits")
    ]


@pytest.mark.slow
def test_a_download_that_fails_ends_the_stage_with_its_error_and_the_same_command_goes_on(
    hub: FakeHub, tmp_path: Path
) -> None:
    hub.next("c.parquet", *[Answer(status=404)] * 50)  # ahead of its use, and when it is wanted
    code, output = run(tmp_path, hub)
    assert code == 1
    assert "E301" in output and "c.parquet of the data set someone/texts (main) was not downloaded" in output
    assert 0 < metrics(tmp_path)[-1]["step"] < 24
    hub.behave()
    code, output = run(tmp_path, hub)
    assert code == 0, output
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    assert run(undisturbed, hub)[0] == 0
    losses = [[(m["step"], m["loss"]) for m in metrics(folder) if "loss" in m] for folder in (tmp_path, undisturbed)]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_two_ranks_share_the_downloads_and_end_with_the_error_of_one(hub: FakeHub, tmp_path: Path) -> None:
    ranks = ("--set", "hardware.launcher=torchrun", "--set", "hardware.nproc_per_node=2")
    hub.next("c.parquet", *[Answer(status=404)] * 50)
    code, output = run(tmp_path, hub, *ranks)
    assert code == 1
    assert "c.parquet of the data set someone/texts (main) was not downloaded" in output
    hub.behave()
    code, output = run(tmp_path, hub, *ranks)
    assert code == 0, output
    assert {name: hub.fetched().count(f"{name}.parquet") for name in "abde"} == dict.fromkeys("abde", 1)
