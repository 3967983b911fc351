"""`device_batch_size = "auto"`: as many rows as fit, and no other result."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_estimate import estimated
from test_estimate import stage as stage_of
from test_training import CONFIG, REGISTRY, Recorder, group, stage

from nanochat.model.gpt import GPT
from nanochat.runtime import Runtime
from nanochat.stages.rows_at_once import state_bytes
from nanochat.text.tokenizer import Tokenizer
from nanochat.training import micro_batch
from nanochat.training.micro_batch import largest_fitting, probed


@pytest.mark.parametrize(
    "rows, most, expected", [(1, 99, 1), (8, 99, 8), (12, 99, 8), (64, 5, 4), (64, 1, 1), (64, 0, 1), (64, 64, 64)]
)
def test_the_largest_power_of_two_that_fits_is_taken_and_nothing_beyond_it_is_tried_twice(
    rows: int, most: int, expected: int
) -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= most

    assert largest_fitting(rows, fits) == expected
    assert tried == [2**i for i in range(len(tried))]
    assert tried[-1] <= min(rows, 2 * expected)


class Ranks(Runtime):
    """A rank on a pretended CUDA device, beside another one whose memory ends at 4 rows where `short` says so."""

    short = False

    def any(self, flag: bool) -> bool:
        return flag or (self.short and len(PASSES) > 3)


PASSES: list[tuple[int, int]] = []


@pytest.mark.parametrize(
    "reserved, short, expected", [(0, False, 32), (300, False, 16), (0, True, 4), (1000, False, 1)]
)
def test_probing_leaves_room_for_the_optimizers_and_goes_by_the_fullest_rank(
    reserved: int, short: bool, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device of 1,000 bytes, 9 tenths of them usable, on which a pass takes 100 and 20 for each row."""

    def peak(model: Any, batch: Any, device: Any, *, passes: int) -> int | None:
        PASSES.append((len(batch.inputs), passes))
        needed = 100 + 20 * len(batch.inputs)
        return needed if needed <= 1000 else None

    PASSES.clear()
    monkeypatch.setattr(micro_batch, "peak_of_passes", peak)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (600, 2000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 400)
    runtime = Ranks(device=torch.device("cuda"), dtype=torch.float32)
    object.__setattr__(runtime, "short", short)
    found = probed(GPT(CONFIG), runtime, rows=32, vocab_size=300, documents=False, reserved=reserved)
    assert found == expected
    assert all(passes == (1 if size == 32 else 2) for size, passes in PASSES)  # 32 rows are all of a step


def test_the_state_of_optimizers_is_what_they_hold_after_a_step() -> None:
    model = GPT(CONFIG)
    optim = {
        "matrices": group("matrices", "muon", "blocks.*", weight_decay=0.1),
        "rest": group("rest", "adamw", ["[!b]*", "backout_lambda"]),
    }
    members = {
        "matrices": {n: p for n, p in model.named_parameters() if n.startswith("blocks.")},
        "rest": {n: p for n, p in model.named_parameters() if not n.startswith("blocks.")},
    }
    held = 0
    for name, component in optim.items():
        optimizer = REGISTRY.builder("optimizer", component.use)(
            component.config, members[name], Runtime(device=torch.device("cpu"), dtype=torch.float32)
        )
        for parameter in members[name].values():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        state = optimizer.state_dict()["state"].values()
        held += sum(t.numel() * t.element_size() for slots in state for t in slots.values())
    assert state_bytes(optim, model) == held and state_bytes(optim, model, updating=4) == -(-held // 4)


def test_on_a_cpu_it_is_4096_tokens_and_the_losses_are_those_of_any_other_number(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["to be or not to be, that is the question " * 20], vocab_size=270)
    by_hand, auto = Recorder(), Recorder()
    stage(tmp_path / "hand", tokenizer, by_hand, device_batch_size=3).execute()
    made = stage(tmp_path / "auto", tokenizer, auto, device_batch_size="auto")
    made.execute()
    assert "8 of 8 rows at once (device_batch_size = auto)" in auto.notes
    losses = [[float.fromhex(loss) for loss in r.losses.values()] for r in (by_hand, auto)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize("gpu, rows", [("h200", 32), ("a100-40", 4)])
def test_an_estimate_takes_what_fits_by_formula(gpu: str, rows: int) -> None:
    trained: Any = stage_of(estimated("speedrun.toml", "stages.base.device_batch_size=auto", gpu=gpu), "base").training
    assert trained.device_batch_size == trained.fitting_batch_size == rows


def test_out_of_memory_says_to_set_a_number() -> None:
    from nanochat.running.execute import out_of_memory

    failed: Any = SimpleNamespace(name="base", config=SimpleNamespace(device_batch_size="auto"))
    error = str(out_of_memory(failed, MemoryError()))
    assert "device_batch_size is auto: set a number, --set stages.base.device_batch_size=1" in error
    assert "what was saved before is intact" in error
