"""Going back: `nanochat-run RECIPE --resume STAGE@STEP`."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_running import STEPS, House, enter, record_of

from nanochat.running.lease import lease

TIMED = {"time", "tokens_per_second", "data_wait", "seconds_left", "mfu", "peak_memory_bytes"}
"""Of a line of metrics, what no two runs have alike."""


@pytest.fixture
def made(made: House) -> House:
    made.write(STEPS)
    return made


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name[-6:]) for path in (folder / "checkpoints").glob("step_*"))


def test_a_dry_run_says_where_it_goes_back_to_what_is_set_aside_and_what_is_redone(made: House) -> None:
    code, output = made.run("--resume", "two@step_000003", "--dry-run")
    assert code == 0, output
    said = [line for line in output.splitlines() if not line.startswith("    ")]
    assert said == [
        "one: reuse (finished " + record_of(made.stage("one"))["finished"][:16].replace("T", " ") + ")",
        "two: resume (--resume goes back to step 3; its result and later checkpoints (4, 5) set aside)",
        "grade: run (two is made afresh)",
    ]
    assert steps(made.stage("two")) == [1, 2, 3, 4, 5]


def test_the_stage_goes_on_from_the_step_and_what_follows_it_is_redone(made: House) -> None:
    before = lines(made.stage("two"))
    code, output = made.run("--resume", "two@3")
    assert code == 0, output
    assert "two: goes on from step 3" in output
    assert "grade: run (two is made afresh)" in output
    assert "one: " not in output
    after = lines(made.stage("two"))
    assert [line["step"] for line in after] == [1, 2, 3, 4, 5]
    assert after[:3] == before[:3]
    assert after[3]["time"] > before[4]["time"]
    assert record_of(made.stage("two"))["figures"]["count.count"]["value"] == 9.0
    assert not any((made.store / ".old").iterdir())


def test_what_is_set_aside_stays_until_the_new_result_is_there_and_can_be_put_back(made: House) -> None:
    record = (made.stage("two") / "record.json").read_bytes()
    code, output = made.run("--resume", "two@1", "--set", "stages.two.trouble=bug")
    assert code == 1, output
    assert made.actions() == {"one": "reuse", "two": "resume", "grade": "run"}
    (aside,) = made.store.glob(".old/two-*")
    assert steps(aside) == [2, 3, 4, 5]
    assert json.loads((aside / "record.json").read_bytes()).keys() == json.loads(record).keys()
    assert [line["step"] for line in lines(aside)] == [1, 2, 3, 4, 5]
    shutil.copytree(aside, made.stage("two"), dirs_exist_ok=True)
    assert made.actions()["two"] == "reuse"


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_killed_while_it_sets_aside_it_leaves_a_stage_that_was_stopped(made: House, moves: int) -> None:
    killing = (
        "import os, signal, sys; from pathlib import Path\n"
        "from nanochat.running.store import Store, folder_at\n"
        "moved, rename = [], Path.rename\n"
        "def dying(path, target):\n"
        "    if len(moved) == int(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    moved.append(path); return rename(path, target)\n"
        "Path.rename = dying\n"
        "Store().set_back(folder_at(Path(sys.argv[1])), 3)\n"
    )
    done = subprocess.run([sys.executable, "-c", killing, str(made.stage("two")), str(moves)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert made.actions()["two"] == ("reuse" if moves == 0 else "resume")
    if moves == 0:
        return
    code, output = made.run("--until", "two")
    assert code == 0, output
    assert record_of(made.stage("two"))["figures"]["count.count"]["value"] == 9.0
    assert [line["step"] for line in lines(made.stage("two"))] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "options, code, said",
    [
        ("--resume two", "E407", "no STAGE@STEP\n  = help: its steps are 1, 2, 3, 4, 5: for example --resume two@5"),
        ("--resume tow", "E407", "did you mean `two`?"),
        ("--resume grade", "E407", "`grade` has no checkpoint to go back to"),
        (f"--resume two@{'9' * 5000}", "E407", "is no STAGE@STEP"),
        ("--resume two@last", "E407", "for example --resume two@5"),
        ("--resume three@1", "E407", "its stages are one, two, grade"),
        ("--resume two@7", "E405", "steps in checkpoints/: two-"),
        ("--resume grade@1", "E405", "steps in checkpoints/: none"),
        ("--resume two@3 --set stages.two.steps=6", "E405", "`two` has no checkpoint of step 3"),
        ("--resume two@3 --fresh two", "E407", "--resume two@3: asked for by --fresh"),
        ("--resume two@3 --fresh one", "E407", "--resume two@3: one is made afresh"),
        ("--resume two@3 --until one", "E407", "--until one comes before --resume two@3"),
        ("--resume two@3 --from grade", "E407", "--from grade comes after --resume two@3"),
    ],
)
def test_what_cannot_be_gone_back_to_is_refused_and_nothing_is_touched(
    made: House, options: str, code: str, said: str
) -> None:
    exit_code, output = made.run(*options.split())
    assert (exit_code, f"error[{code}]" in output, said in output) == (2, True, True), output
    assert made.actions() == {"one": "reuse", "two": "reuse", "grade": "reuse"}


def test_until_and_from_bound_what_is_done_after_going_back(made: House) -> None:
    code, output = made.run("--resume", "two@3", "--from", "two", "--until", "two", "--dry-run")
    assert (code, "two: resume" in output, "one: " in output, "grade: " in output) == (0, True, False, False)


def test_a_result_that_follows_from_a_replaced_one_goes_though_it_cannot_be_made_here(made: House) -> None:
    hardware = {"launcher": "torchrun", "device": "cuda", "dtype": "float32", "nproc_per_node": 64}
    needs_cuda = [f"stages.grade.hardware.{name}={value}" for name, value in hardware.items()]
    assert made.actions(*needs_cuda)["grade"] == "reuse"
    options = [word for override in needs_cuda for word in ("--set", override)]
    code, output = made.run("--fresh", "two", "--until", "two", *options)
    assert code == 0, output
    assert made.actions() == {"one": "reuse", "two": "reuse", "grade": "run"}
    assert made.actions(*needs_cuda)["grade"] == "blocked"


def test_where_somebody_works_on_one_result_none_is_set_aside(made: House) -> None:
    with lease(made.stage("two"), what="stage `two`"):
        code, output = made.run("--fresh", "two")
    assert (code, "error[E402]: stage `two` is being run by" in output) == (2, True), output
    assert made.actions() == {"one": "reuse", "two": "reuse", "grade": "reuse"}


def test_a_redone_stage_took_the_time_of_its_own_attempts_and_one_gone_back_that_of_all(made: House) -> None:
    (run,) = (made.folder / "home" / "runs").iterdir()
    key = record_of(made.stage("two"))["key"]
    with (run / "events.jsonl").open("a") as events:
        events.write(json.dumps({"event": "stage_stopped", "stage": "two", "key": key, "seconds": 5000.0}) + "\n")
    for options, least, most in ((["--resume", "two@3"], 5000.0, 6000.0), (["--fresh", "two"], 0.0, 1000.0)):
        code, output = made.run(*options, "--until", "two")
        assert code == 0, output
        assert least < record_of(made.stage("two"))["seconds"] < most


def test_killed_while_it_sets_aside_the_same_command_with_resume_goes_on(made: House) -> None:
    made_last = made.stage("two")
    aside = made.store / ".old" / f"{made_last.name}.1"
    aside.mkdir(parents=True)
    (made_last / "record.json").rename(aside / "record.json")  # what set_back moves first
    code, output = made.run("--resume", "two@3", "--until", "two")
    assert code == 0, output
    assert "two: goes on from step 3" in output
    assert not list(made.store.glob(".old/two-*"))


TRAINING = """
format = 1
name = "small"
[hardware]
launcher = "local"
device = "cpu"
[stages.tok]
use = "tokenizer"
vocab_size = 300
[stages.tok.data.stories]
use = "stories"
size = 60
[stages.base]
use = "pretrain"
tokenizer = "stage:tok"
steps = 6
total_batch_size = 256
log_every = 1
checkpoint_every = 2
checkpoints_kept = 3
[stages.base.model]
use = "gpt"
depth = 2
dim = 64
head_dim = 32
sequence_len = 32
[stages.base.data]
from = "stages.tok.data"
[stages.base.optim.matrices]
use = "muon"
match = "blocks.*"
[stages.base.optim.rest]
use = "adamw"
match = "[!b]*"
[stages.base.optim.backout]
use = "adamw"
match = "backout_lambda"
[stages.base.evals.bpb]
use = "bpb"
tokens = 1024
every = 3
"""


def test_training_gone_back_gives_the_undisturbed_losses_and_weights_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = enter(tmp_path, monkeypatch)
    house.write(TRAINING)

    def outcome() -> tuple[list[dict[str, Any]], str]:
        figures = [{k: v for k, v in line.items() if k not in TIMED} for line in lines(base)]
        return figures, hashlib.sha256((base / "checkpoints/step_000006/model.safetensors").read_bytes()).hexdigest()

    code, output = house.run()
    assert code == 0, output
    base = house.stage("base")
    undisturbed = outcome()
    assert len([line for line in undisturbed[0] if "loss" in line]) == 6
    code, output = house.run("--resume", "base@2")
    assert code == 0, output
    assert "base: goes on from step 2" in output
    assert outcome() == undisturbed
