"""A worker: one process that runs a stage of a locked recipe, and what it leaves for the runner.

`run_stage` is what `python -m nanochat.running.worker` calls; here it runs in the tests' own process.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from nanochat.errors import Diagnostic, InputError, Location, StageError, stage_failure
from nanochat.recipe.load import load_recipe
from nanochat.recipe.lock import lock_text
from nanochat.registry import Registry
from nanochat.running.attempt import Death
from nanochat.running.execute import is_out_of_memory
from nanochat.running.handover import Handover
from nanochat.running.reporter import FileReporter
from nanochat.running.run_folder import LOCK
from nanochat.running.stop import StopRequests
from nanochat.running.tracker import Audience
from nanochat.running.worker import run_stage

LOOSE = Path(__file__).parent / "loose"
RECIPE = """
format = 1
name = "counting"
[hardware]
device = "cpu"
[stages.one]
use = "count"
steps = 4
[trackers.diary]
use = "diary"
path = "{diary}"
"""


@attrs.frozen
class Bench:
    """A run folder with a lock and a stage folder: what the runner prepares for a worker."""

    folder: Path

    @property
    def stage(self) -> Path:
        return self.folder / "one-12345678"

    @property
    def diary(self) -> list[str]:
        return (self.folder / "diary").read_text().splitlines()

    @property
    def notes(self) -> list[str]:
        return [json.loads(line)["text"] for line in (self.folder / "events.jsonl").read_text().splitlines()]

    @property
    def handover(self) -> Handover:
        return Handover(self.stage)

    def work(self, *overrides: str, requests: StopRequests | None = None) -> int:
        recipe = self.folder / "counting.toml"
        recipe.write_text(RECIPE.format(diary=self.folder / "diary"))
        (self.folder / LOCK).write_text(lock_text(load_recipe(recipe, overrides=overrides)))
        self.handover.clear()
        self.handover.write_inputs({})
        return run_stage(self.folder, "one", self.stage, requests or StopRequests())

    def metrics(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.stage / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("NANOCHAT_PLUGINS_DIR", str(LOOSE))
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    return Bench(tmp_path)


class StopAfter(StopRequests):
    """A signal that comes after the stage has asked a few times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    @property
    def asked(self) -> bool:
        self.times -= 1
        return self.times < 0


def codes(error: Any) -> Sequence[str]:
    return [diagnostic.code for diagnostic in error.diagnostics]


def test_a_worker_leaves_a_result_and_no_record(bench: Bench) -> None:
    assert bench.work() == 0
    result = bench.handover.result()
    assert result is not None
    assert result["artifact"] == "checkpoints/step_000004"
    assert result["figures"]["count.count"] == {"value": 4.0, "n": 1, "standard_error": None}
    assert (result["device"], result["dtype"], result["world_size"]) == ("cpu", "float32", 1)
    assert not (bench.stage / "record.json").exists()


def test_metrics_are_one_json_object_a_line_with_growing_steps(bench: Bench) -> None:
    bench.work()
    assert [(line["step"], line["loss"]) for line in bench.metrics()] == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25)]


def test_a_tracker_is_told_everything_and_its_fault_changes_nothing(bench: Bench) -> None:
    assert bench.work() == 0
    assert bench.diary == ["start one", "step 1 1", "step 2 0.5", "step 3 0.333333", "step 4 0.25", "finish done"]


def test_a_stage_that_is_asked_to_stop_says_where_it_stopped_and_goes_on_from_there(bench: Bench) -> None:
    assert bench.work(requests=StopAfter(1)) == 75
    assert bench.handover.stopped() == {"done": 2, "total": 4, "unit": "steps"}
    assert bench.handover.result() is None
    assert bench.diary[-1] == "finish stopped"
    assert bench.work() == 0
    assert bench.notes == ["tracker `diary`: ValueError: a tracker that fails (said once)", "goes on from step 2"]
    assert [line["step"] for line in bench.metrics()] == [1, 2, 3, 4]


def test_steps_beyond_the_checkpoint_are_cut_off_when_a_stage_goes_on(bench: Bench) -> None:
    bench.work(requests=StopAfter(1))
    with (bench.stage / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "loss": 9.0}\n{"step": 4, "lo')  # killed after its checkpoint of step 2
    bench.work()
    assert [(line["step"], line["loss"]) for line in bench.metrics()][2:] == [(3, 1 / 3), (4, 0.25)]


def test_figures_of_an_attempt_without_any_checkpoint_are_forgotten(bench: Bench) -> None:
    assert bench.work('stages.one.trouble="bug"') == 1
    assert len(bench.metrics()) == 1
    assert bench.work() == 0
    assert [line["step"] for line in bench.metrics()] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "trouble, exit_code, code, said",
    [
        ("input", 2, "E302", "the corpus is empty"),
        ("stage", 1, "E501", "the loss is nan"),
        ("bug", 1, "E403", "stage `one` failed: ZeroDivisionError: a bug"),
        ("memory", 1, "E502", "--set stages.one.device_batch_size=4 (now 8; the result stays the same)"),
        ("disk", 1, "E401", "the disk is full"),
    ],
)
def test_what_goes_wrong_is_written_down_for_the_runner(
    bench: Bench, trouble: str, exit_code: int, code: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.work(f'stages.one.trouble="{trouble}"') == exit_code
    error = bench.handover.error()
    assert error is not None
    assert codes(error) == [code]
    assert said in str(error)
    assert error.exit_code == exit_code
    assert bench.diary[-1] == "finish failed"
    # A traceback goes to the log, and only for what nobody foresaw.
    assert ("ZeroDivisionError" in capsys.readouterr().err) == (trouble == "bug")


def test_out_of_memory_is_recognised_in_all_its_shapes() -> None:
    with pytest.raises(RuntimeError) as cpu:
        torch.empty(1 << 60)
    assert is_out_of_memory(cpu.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert not is_out_of_memory(RuntimeError("shapes differ"))


# What runner and workers tell one another


def test_an_error_crosses_from_worker_to_runner_as_it_was(tmp_path: Path) -> None:
    handover = Handover(tmp_path)
    handover.clear()
    place = Location(path="r.toml", line=3, column=1, width=4, text="data = 1")
    error = InputError([Diagnostic(code="E103", message="wrong", location=place, label="a table", help="write one")])
    handover.write_error(error, rank=0)
    found = handover.error()
    assert isinstance(found, InputError)
    assert found.diagnostics == error.diagnostics


def test_of_several_ranks_errors_the_first_one_in_time_is_shown(tmp_path: Path) -> None:
    handover = Handover(tmp_path)
    handover.clear()
    handover.write_error(stage_failure("E501", "the cause"), rank=1)
    handover.write_error(stage_failure("E403", "the consequence"), rank=0)
    found = handover.error()
    assert isinstance(found, StageError)
    assert found.diagnostics[0].message == "the cause"


def test_an_attempt_starts_without_the_files_of_the_one_before(tmp_path: Path) -> None:
    handover = Handover(tmp_path)
    handover.clear()
    handover.write_result({"artifact": "."})
    handover.write_stopped(1, 2, "steps")
    handover.write_error(stage_failure("E501", "x"), rank=0)
    handover.clear()
    assert (handover.result(), handover.stopped(), handover.error(), handover.progress()) == (None, None, None, None)


def test_a_value_that_is_not_finite_becomes_null(tmp_path: Path) -> None:
    reporter = FileReporter("one", tmp_path, tmp_path / "events.jsonl", Audience("one", {}, Registry()))
    reporter.metrics(1, {"loss": float("nan"), "norm": float("inf"), "lr": 0.5})
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    found = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (found["loss"], found["norm"], found["lr"]) == (None, None, 0.5)


def test_progress_is_throttled_but_the_last_step_is_told(tmp_path: Path) -> None:
    handover = Handover(tmp_path)
    handover.clear()
    reporter = FileReporter("one", tmp_path, tmp_path / "events.jsonl", Audience("one", {}, Registry()))
    for step in range(1, 100):
        reporter.progress(step, 100, {"loss": 1.0})
    seen = handover.progress()
    assert seen is not None
    assert seen["done"] < 99
    reporter.progress(100, 100, {"loss": 1.0})
    seen = handover.progress()
    assert seen is not None
    assert (seen["done"], seen["total"]) == (100, 100)


def test_a_worker_that_left_no_word_is_described_by_its_end_and_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    head, agent = (
        "=== now torchrun …\n",
        "E1121 10:00:00.000000 7 torch/distributed/elastic/api.py:1] failed\nTraceback\n",
    )
    log.write_text("an attempt before\n")
    start = log.stat().st_size
    with log.open("a") as file:
        file.write(head + "its last words\n" + agent + "traceback : Signal 9 (SIGKILL) received by PID 7\n")
    error = Death.read(1, log, start).error("one")
    message = error.diagnostics[0].message
    assert message.splitlines()[1:] == ["  | its last words"]
    assert "was killed by SIGKILL; where nobody did so, the system was out of memory" in message
    assert "ended with exit code 3" in str(Death.read(3, log, log.stat().st_size).error("one"))


def test_signals_only_set_a_flag() -> None:
    requests = StopRequests()
    requests.listen()
    try:
        os.kill(os.getpid(), 15)
        os.kill(os.getpid(), 2)
        assert (requests.asked, requests.count) == (True, 2)
    finally:
        requests.restore()
