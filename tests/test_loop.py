"""What the loop tells of a step, and what it does with numbers that are not finite: on one process and on two."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import load_file
from test_training import CONFIG, CountingLoader, Recorder, stage

from nanochat.data.loader import Batch
from nanochat.errors import StageError, Stopped
from nanochat.model.gpt import GPT
from nanochat.runtime import Runtime, local_runtime
from nanochat.text.tokenizer import Tokenizer
from nanochat.training.groups import assign
from nanochat.training.loop import TrainingRun, train
from nanochat.training.loss_scale import LossScale
from nanochat.training.meter import Meter
from nanochat.training.peak import measured, peak_flops
from nanochat.training.schedule import remember_peaks
from nanochat.training.schedule_config import ScheduleConfig
from nanochat.training.step_memory import StepMemory


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["to be or not to be, that is the question " * 20], vocab_size=270)


@attrs.define
class Lines(Recorder):
    """A reporter that remembers every figure of every step."""

    lines: dict[int, dict[str, float]] = attrs.field(factory=dict)
    notes: list[str] = attrs.field(factory=list)

    def metrics(self, step: int, figures: Mapping[str, float]) -> None:
        self.lines.setdefault(step, {}).update(figures)

    def truncate_metrics(self, step: int) -> None:
        self.lines = {s: line for s, line in self.lines.items() if s <= step}


def sgd_run(model: torch.nn.Module, **changes: Any) -> TrainingRun:
    """A run of one step of plain descent at a rate of 0.5, in one group, `all`."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    remember_peaks([optimizer])
    run = TrainingRun(
        model=model, optimizers={"all": [optimizer]}, loader=CountingLoader(), runtime=local_runtime(), steps=1,
        schedule=ScheduleConfig(warmup_steps=2, warmdown_ratio=0.0), fraction=lambda step: 0.0, device_batch_size=3,
        metrics=lambda *_: None, progress=lambda *_: None, evaluate=lambda step: {}, save=lambda: None,
        stop_asked=lambda: False,
    )  # fmt: skip
    for name, change in changes.items():
        setattr(run, name, change)
    return run


def test_a_line_of_metrics_says_rate_gradient_and_change_of_every_group() -> None:
    """Worked out from the gradient of the whole batch at once: w ← w − 0.25·g."""
    torch.manual_seed(0)
    model, lines = GPT(CONFIG), Lines()
    batch = CountingLoader().next_batch()
    expected_loss = model(batch.inputs, batch.targets)
    expected_loss.backward()
    gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).double()
    model.zero_grad()
    before = torch.cat([p.detach().flatten() for p in model.parameters()]).double()

    train(sgd_run(model, metrics=lines.metrics))

    (line,) = lines.lines.values()
    after = torch.cat([p.detach().flatten() for p in model.parameters()]).double()
    assert line["loss"] == pytest.approx(float(expected_loss.detach()), rel=1e-5)
    assert line["lr.all"] == 0.25  # half of its peak: the first of two steps of warmup
    assert line["gradient_norm"] == pytest.approx(float(gradients.norm()), rel=1e-4)
    assert line["update.all"] == pytest.approx(0.25 * float(gradients.norm() / after.norm()), rel=1e-4)
    assert line["update.all"] == pytest.approx(float((after - before).norm() / after.norm()), rel=1e-4)
    assert (line["tokens"], line["data.documents"]) == (8 * 16, 1)


def test_of_a_large_group_every_third_row_tells_how_much_it_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, lines = GPT(CONFIG), Lines()
    total = sum(p.numel() for p in model.parameters())
    monkeypatch.setattr("nanochat.training.loop.MEASURED_WEIGHTS", total / 2.5)
    before = [p.detach().clone()[::3] for p in model.parameters()]
    train(sgd_run(model, metrics=lines.metrics))
    after = [p.detach()[::3] for p in model.parameters()]
    moved = torch.cat([(a - b).flatten() for a, b in zip(after, before, strict=True)])
    left = torch.cat([a.flatten() for a in after])
    assert lines.lines[1]["update.all"] == pytest.approx(float(moved.norm() / left.norm()), rel=1e-4)


@pytest.mark.parametrize("clip, factor", [(0.0, 1.0), (1e6, 1.0), (0.01, None)])
def test_gradients_are_scaled_down_to_the_largest_norm_and_never_up(clip: float, factor: float | None) -> None:
    def moved(clip: float) -> tuple[float, float]:
        torch.manual_seed(0)
        model, lines = GPT(CONFIG), Lines()
        before = torch.cat([p.detach().flatten() for p in model.parameters()])
        train(sgd_run(model, metrics=lines.metrics, grad_clip=clip))
        after = torch.cat([p.detach().flatten() for p in model.parameters()])
        return float((after - before).norm()), lines.lines[1]["gradient_norm"]

    distance, norm = moved(clip)
    assert distance == pytest.approx(0.25 * norm * (factor or clip / norm), rel=1e-3)


def test_the_smoothed_loss_is_a_mean_whose_weights_fall_by_a_tenth_a_step() -> None:
    meter, losses = Meter(), [5.0, 3.0, 4.0, 2.0]
    for loss in losses:
        meter.add(loss, tokens=1)
    weights = [0.9**age for age in (3, 2, 1, 0)]
    assert meter.smoothed_loss == pytest.approx(
        sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)
    )


def test_a_run_that_goes_on_shows_the_smoothed_loss_of_an_undisturbed_one(tmp_path: Path, tokenizer: Tokenizer) -> None:
    undisturbed, disturbed = Lines(), Lines()
    stage(tmp_path / "whole", tokenizer, undisturbed).execute()
    with pytest.raises(Stopped):
        stage(tmp_path / "cut", tokenizer, disturbed, iter([False] * 4 + [True])).execute()
    stage(tmp_path / "cut", tokenizer, disturbed).execute()
    shown = [
        [line["smoothed_loss"] for _, line in sorted(r.lines.items()) if "loss" in line]
        for r in (undisturbed, disturbed)
    ]
    assert shown[0] == shown[1]
    assert len(shown[0]) == 12


def test_speed_counts_the_time_of_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 tokens in 2 seconds, half a second of it waiting for data; 10 seconds of evaluation lie between."""
    clock = [0.0]
    monkeypatch.setattr("nanochat.training.meter.time.monotonic", lambda: clock[0])
    meter = Meter(flops_per_token=6_000, peak_flops=1e6)
    with meter.waiting():
        clock[0] += 0.5
    clock[0] += 1.5
    meter.add(1.0, tokens=60)
    meter.add(1.0, tokens=40)
    with meter.pause():
        clock[0] += 10
    assert meter.figures(steps_left=7) == {
        "tokens_per_second": 50.0, "data_wait": 0.25, "seconds_left": 7.0, "mfu": pytest.approx(0.3)
    }  # fmt: skip


def test_the_speed_of_a_run_is_the_median_of_its_lines_by_the_clock_and_by_cpu_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lines of 100 tokens in 2, 4 and 10 seconds, of which two processes computed a half; 5 seconds of evaluation."""
    clock = [0.0]
    monkeypatch.setattr("nanochat.training.meter.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("nanochat.training.meter.time.process_time", lambda: clock[0] / 4)
    for processes, expected in {
        2: {"tokens_per_second": 25.0, "tokens_per_cpu_second": 50.0},
        0: {"tokens_per_second": 25.0},
    }.items():
        meter = Meter(processes=processes)
        assert meter.speed == {}
        for seconds in (2.0, 4.0, 10.0):
            clock[0] += seconds
            meter.add(1.0, tokens=100)
            with meter.pause():
                clock[0] += 5
            meter.figures(steps_left=1)
        assert meter.speed == expected


def test_the_memory_of_a_step_is_the_most_that_its_tensors_take_at_once() -> None:
    """4,000 bytes and 8,000 beside them, then 400 alone; what stood before a step began does not count."""
    memory, before = StepMemory(device=torch.device("cpu"), steps=2), torch.zeros(5000)
    for step in range(4):
        memory.begin()
        first = torch.zeros(1000)
        second = torch.zeros(2000 + (100_000 if step in (0, 3) else 0))  # of the steps that are not looked at
        del first, second
        third = torch.zeros(100)
        memory.end()
    assert before.nbytes == 20_000 and third.nbytes == 400
    assert memory.figures(held=20_000) == {"step_memory_bytes": 12_000, "training_memory_bytes": 32_000}
    assert StepMemory(device=torch.device("cpu")).figures(held=20_000) == {}


def test_a_record_says_what_its_steps_took_where_that_is_asked(tmp_path: Path, tokenizer: Tokenizer) -> None:
    figures = stage(tmp_path / "asked", tokenizer, Recorder(), track_memory=2).execute().figures
    made = stage(tmp_path / "not", tokenizer, Recorder())
    plain = made.execute().figures
    memory, held = figures["step_memory_bytes"].value, figures["training_memory_bytes"].value
    groups = made.config.optim.values()
    parameters = dict(made.model.named_parameters())
    weights = sum(p.nbytes for p in parameters.values())
    of_groups = assign(parameters, {name: group.slot.match for name, group in made.config.optim.items()}).groups
    state = sum(
        group.config.state_bytes([tuple(parameters[name].shape) for name in of_groups[group.name]]) for group in groups
    )
    buffers = sum(b.nbytes for b in made.model.buffers())
    assert memory is not None and held is not None
    assert held - memory == weights + state + buffers
    assert memory > weights  # gradients of all of them stand at once
    assert "step_memory_bytes" not in plain
    assert plain["tokens_per_second"].value > 0  # type: ignore[operator]


@pytest.mark.parametrize(
    ("ticks", "seconds"),
    [
        ([0, 0.4, 10, 10.05, 11, 11.004, 12, 12.03, 13, 13.02, 14, 14.01], 0.004),  # the first one starts threads
        ([0, 0.4, 10, 10.7], 0.7),  # after a second no further one is begun
        ([0, 4.0], 4.0),
    ],
)
def test_a_measured_peak_is_the_speed_of_products_of_that_size(
    ticks: list[float], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2·1024³ operations each, under a clock of ours, of which every tick is used."""
    clock = iter(ticks)
    monkeypatch.setattr("nanochat.training.peak.time.perf_counter", lambda: next(clock))
    assert measured(torch.device("cpu"), torch.float32) == pytest.approx(2 * 1024**3 / seconds, rel=1e-6)
    assert next(clock, None) is None


@pytest.mark.parametrize(
    "name, dtype, teraflops",
    [
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989),
        ("NVIDIA H100 80GB HBM3", "float32", 67),
        ("NVIDIA A100-SXM4-40GB", "float16", 312),
    ],
)
def test_the_peak_of_a_known_gpu_is_its_makers_for_the_dtype(
    name: str, dtype: str, teraflops: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = SimpleNamespace(name=name, total_memory=40 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: there)
    runtime = Runtime(device=torch.device("cuda"), dtype=getattr(torch, dtype))
    assert peak_flops(runtime) == pytest.approx(teraflops * 1e12)


def test_a_loss_that_is_not_finite_leaves_the_batch_that_gave_it(tmp_path: Path, tokenizer: Tokenizer) -> None:
    made = stage(tmp_path, tokenizer, Recorder(), device_batch_size=3)
    batch = made.loader.next_batch()
    made.loader.next_batch = lambda: batch  # type: ignore[method-assign]
    poisoned = int(batch.inputs[4, 0])  # a row of the second part, of rows 3 … 5
    others = torch.cat([batch.inputs[:3], batch.inputs[6:]]).unique()
    with torch.no_grad():
        made.model.wte.weight[poisoned] = float("nan")
    with pytest.raises(StageError, match=r"the loss is nan at step 0.*no weight was updated.*nonfinite/step_000000"):
        made.execute()
    kept = load_file(tmp_path / "nonfinite/step_000000/rank-0.safetensors")
    assert torch.equal(kept["inputs"].long(), batch.inputs)
    assert torch.equal(kept["targets"].long(), batch.targets)
    assert torch.isnan(kept["losses"]).tolist() == [bool((rows == poisoned).any()) for rows in batch.inputs.split(3)]
    assert bool((others == poisoned).any()) or torch.isnan(kept["losses"]).tolist() == [False, True, False]


def test_gradients_that_are_not_finite_stop_a_run_whose_loss_is(tmp_path: Path, tokenizer: Tokenizer) -> None:
    made = stage(tmp_path, tokenizer, Recorder())
    made.model.head.weight.register_hook(lambda gradient: gradient * float("inf"))
    before = {name: p.detach().clone() for name, p in made.model.named_parameters()}
    with pytest.raises(StageError, match=r"the gradient.s norm is (nan|inf) at step 0"):
        made.execute()
    assert all(torch.equal(p, before[name]) for name, p in made.model.named_parameters())


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left that went through `fail_on_one_rank` and `stop_on_one_rank`."""
    tmp_path = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    ran = subprocess.run([*command, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return tmp_path


def test_a_nan_on_one_of_two_ranks_stops_both_before_a_weight_is_updated(two: Path) -> None:
    """In the third step the second one's rows hold an id whose embedding is nan."""
    for rank in range(2):
        said = json.loads((two / f"{rank}.json").read_text())["failed"]
        assert "the loss is nan at step 2" in said["error"]
        assert "; on rank 1" in said["error"]  # whichever rank's error is shown
        assert ("in part 0 of rank 1's batch" in said["error"]) == (rank == 1)
        assert said["moved"] == 0.0
        losses = load_file(two / f"nonfinite/step_000002/rank-{rank}.safetensors")["losses"]
        assert bool(torch.isnan(losses).any()) == (rank == 1)


def test_when_one_of_two_ranks_is_asked_to_stop_both_save_after_the_same_step(two: Path) -> None:
    """The first one's data comes late at every second step, and the second one is asked in the fourth."""
    for rank in range(2):
        assert json.loads((two / f"{rank}.json").read_text())["stopped"] == {"step": 4, "saved": [4]}


def stop_on_one_rank(runtime: Runtime) -> dict[str, Any]:
    """Where this rank stood when it stopped, and after which steps it saved."""
    saved: list[int] = []

    class Late(CountingLoader):
        asked = 0

        def ready(self, seconds: float) -> bool:
            self.asked += 1
            return runtime.rank == 1 or self.asked % 2 == 0

    run = sgd_run(GPT(CONFIG), runtime=runtime, loader=Late(), steps=9)
    run.save = lambda: saved.append(run.step)
    run.stop_asked = lambda: runtime.rank == 1 and run.step == 3
    try:
        train(run)
    except Stopped:
        return {"step": run.step, "saved": saved}
    return {}


def fail_on_one_rank(runtime: Runtime, folder: Path) -> dict[str, Any]:
    """What this rank says, and how far its weights moved since the second step."""
    torch.manual_seed(0)
    model = GPT(CONFIG)
    with torch.no_grad():
        model.wte.weight[299] = float("nan")
    weights: dict[int, torch.Tensor] = {}

    class Poisoned(CountingLoader):
        def next_batch(self) -> Batch:
            batch = super().next_batch()
            ids = batch.inputs.clamp(max=298)
            if self.step == 3 and runtime.rank == 1:
                ids[0, 0] = 299
            return attrs.evolve(batch, inputs=ids)

    def keep(step: int, *_: Any) -> None:
        weights[step] = torch.cat([p.detach()[:299].flatten() for p in model.parameters()])

    run = sgd_run(model, runtime=runtime, loader=Poisoned(), steps=9, folder=folder, progress=keep, device_batch_size=8)
    try:
        train(run)
    except StageError as error:
        keep(3)
        return {"error": str(error), "moved": float((weights[3] - weights[2]).abs().max())}
    return {}


def test_training_in_float16_follows_float32(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Step by step the loss is that of float32, to the 11 bits of its numbers."""
    shown = []
    for dtype in ("float32", "float16"):
        lines, runtime = Lines(), local_runtime(dtype=dtype)
        made = stage(tmp_path / dtype, tokenizer, lines)
        made.context = attrs.evolve(made.context, runtime=runtime)
        half = GPT(CONFIG, runtime.dtype)
        half.load_state_dict(made.model.state_dict())
        made.model = half
        made.execute()
        shown.append([line["loss"] for _, line in sorted(lines.lines.items()) if "loss" in line])
    assert shown[1] == pytest.approx(shown[0], abs=0.02)
    assert lines.lines[12]["loss_scale"] == 2.0**16
    state = json.loads((tmp_path / "float16/checkpoints/step_000012/state.json").read_text())
    assert state["loss_scale"] == {"factor": 2.0**16, "clean_steps": 12, "skipped": 0}


def test_a_step_whose_gradients_overflow_is_skipped_and_the_scale_halved() -> None:
    torch.manual_seed(0)
    model, lines = GPT(CONFIG), Lines()
    before = [p.detach().clone() for p in model.parameters()]
    overflow = model.head.weight.register_hook(lambda gradient: gradient * float("inf"))
    scale = LossScale(factor=8.0, clean_steps=5)
    run = sgd_run(model, metrics=lines.metrics, loss_scale=scale)
    train(run)
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert (scale.factor, scale.clean_steps, lines.lines[1]["skipped_steps"]) == (4.0, 0, 1.0)
    overflow.remove()
    run.steps = 2
    train(run)
    assert not all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert math.isfinite(lines.lines[2]["gradient_norm"])


def test_gradients_too_small_for_float16_come_through_under_a_scale() -> None:
    """The loss of one target in ten million: behind the head's weights of a thousandth, its gradients round to 0."""

    def output_gradient(dtype: torch.dtype, factor: float) -> torch.Tensor:
        torch.manual_seed(0)
        model, batch = GPT(CONFIG, dtype), CountingLoader().next_batch()
        loss = 1e-7 * model(batch.inputs, batch.targets, reduction="sum")
        (factor * loss).backward()
        assert model.blocks[1].attn.out.weight.grad is not None
        return model.blocks[1].attn.out.weight.grad / factor

    exact = output_gradient(torch.float32, 1.0)
    assert not output_gradient(torch.float16, 1.0).any()
    scaled = output_gradient(torch.float16, LossScale().factor)
    assert float((scaled - exact).norm() / exact.norm()) < 0.05


def test_the_scale_does_not_show_in_what_a_step_changes() -> None:
    def weights(scale: LossScale | None) -> torch.Tensor:
        torch.manual_seed(0)
        model = GPT(CONFIG)
        train(sgd_run(model, loss_scale=scale, grad_clip=0.05))
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    torch.testing.assert_close(weights(LossScale(factor=2.0**10)), weights(None), rtol=0, atol=1e-7)


def test_a_scale_grows_after_two_thousand_clean_steps_and_gives_up_below_one() -> None:
    scale = LossScale(factor=4.0)
    for _ in range(2_000):
        assert scale.accepts(overflowed=False)
    assert scale.factor == 8.0
    assert [scale.accepts(overflowed=True) for _ in range(3)] == [False] * 3
    with pytest.raises(StageError, match="overflow float16 even unscaled"):
        scale.accepts(overflowed=True)


if __name__ == "__main__":  # one of the two processes
    from nanochat.runtime import distributed_runtime

    with distributed_runtime(device="cpu", dtype="float32", seed=1) as own:
        place = Path(sys.argv[1])
        said = {"failed": fail_on_one_rank(own, place), "stopped": stop_on_one_rank(own)}
        (place / f"{own.rank}.json").write_text(json.dumps(said))
