"""A run that is stopped by signals in every one of its stages, by real processes, and comes to the same result."""

import hashlib
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE
from test_running import House, enter, record_of, wait_for

from nanochat.running.json_file import read_json

RECIPE = """
format = 1
name = "stops"
[hardware]
launcher = "local"
device = "cpu"
[stages.tok]
use = "tokenizer"
vocab_size = 400
[stages.tok.data.stories]
use = "stories"
size = 8000
[stages.base]
use = "pretrain"
tokenizer = "stage:tok"
steps = 600
total_batch_size = 256
log_every = 1
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
[stages.sft]
use = "finetune"
init = "stage:base"
steps = 600
total_batch_size = 256
log_every = 1
[stages.sft.optim.all]
use = "adamw"
match = "*"
[stages.sft.data.arithmetic]
use = "arithmetic"
size = 500
[stages.eval]
use = "evaluate"
checkpoint = "stage:sft"
[stages.eval.evals.arithmetic]
use = "task"
max_tokens = 32
[stages.eval.evals.arithmetic.task]
use = "arithmetic"
size = 400
split = "test"
"""
STAGES = ("tok", "base", "sft", "eval")


def at_work(house: House, stage: str) -> bool:
    """Whether the stage has done something, and has something left."""
    for path in house.store.glob(f"{stage}-*/worker/progress.json"):
        told = read_json(path) or {}
        return 0 < told.get("done", 0) < told.get("total", 0)
    return False


def outcome(house: House) -> dict[str, Any]:
    """What a run made: the tokenizer, losses, weights, scores."""
    found: dict[str, Any] = {"tok": (house.stage("tok") / "tokenizer/tokenizer.json").read_bytes()}
    for stage in ("base", "sft"):
        folder = house.stage(stage)
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        found[stage] = [(line["step"], float(line["loss"]).hex()) for line in lines if "loss" in line]
        model = folder / record_of(folder)["artifact"] / "model.safetensors"
        found[f"{stage} weights"] = hashlib.sha256(model.read_bytes()).hexdigest()
    figures = record_of(house.stage("eval"))["figures"]
    found["eval"] = {name: figure["value"] for name, figure in figures.items() if name.startswith("arithmetic.")}
    return found


def finish(house: House) -> None:
    process = house.start("run", str(house.recipe))
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0, output


@pytest.mark.slow
def test_stopped_in_every_stage_a_run_comes_to_the_result_of_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("calm", "stopped"):
        (tmp_path / name).mkdir()
    house = enter(tmp_path / "stopped", monkeypatch)
    house.write(RECIPE)
    for number, stage in enumerate(STAGES):
        process: subprocess.Popen[str] = house.start("run", str(house.recipe))
        try:
            wait_for(lambda at=stage, its=process: at_work(house, at) or its.poll() is not None)
            process.send_signal((signal.SIGTERM, signal.SIGINT)[number % 2])
            output, _ = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        assert process.returncode == 75, output
        assert f"stopped {stage} " in output and "the same command goes on" in output
        assert house.actions()[stage] in ("run", "resume")
    finish(house)
    calm = enter(tmp_path / "calm", monkeypatch)
    calm.write(RECIPE)
    finish(calm)
    assert outcome(house) == outcome(calm)
    assert len(outcome(calm)["sft"]) == 600
