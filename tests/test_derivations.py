"""Derived values: the scaling rules against published figures, and what each knows of its rule and inputs."""

import math
from pathlib import Path

import pytest
from tiny_plugin import EIGHT_GPUS, TINY, load, value, write

from nanochat.model.gpt_config import GPTConfig
from nanochat.stages import derivations


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write(tmp_path, TINY)


def test_the_scaling_rules_give_the_published_speedrun() -> None:
    """d24 at 8 tokens a parameter: batches of 2^20 tokens, 5,568 steps."""
    model = GPTConfig(depth=24, dim=1536, n_head=12, n_kv_head=12, vocab_size=32768)
    # 24 blocks of 12·1536² + the gates of 12 blocks (12 × 12) + the head
    n = 24 * 12 * 1536**2 + 12 * 12 * 12 + 32768 * 1536
    batch = derivations.total_batch_size(model)
    assert batch == 2**20
    assert derivations.steps(8.0, None, model, batch) == round(8 * n / 2**20) == 5568


def test_depth_12_is_its_own_reference() -> None:
    model = GPTConfig(depth=12, dim=768, n_head=6, n_kv_head=6, vocab_size=32768)
    assert derivations.total_batch_size(model) == 2**19
    steps = derivations.steps(12.0, None, model, 2**19)
    assert derivations.muon_weight_decay(12.0, model, 2**19, steps, 0.02, 1.0) == pytest.approx(0.28, rel=1e-3)


def test_weight_decay_falls_with_the_tokens_and_grows_with_the_root_of_the_batch() -> None:
    """0.28·√(B/2^19)·D12/D, by hand for d24: D12/D = N12/N."""
    model = GPTConfig(depth=24, dim=1536, n_head=12, n_kv_head=12, vocab_size=32768)
    n = 24 * 12 * 1536**2 + 12 * 12 * 12 + 32768 * 1536
    n12 = 12 * 12 * 768**2 + 6 * 6 * 12 + 32768 * 768
    found = derivations.muon_weight_decay(8.0, model, 2**20, 5568, 0.02, math.sqrt(2))
    assert found == pytest.approx(0.28 * math.sqrt(2) * n12 / n, rel=1e-3)


def test_a_target_of_flops_decides_the_steps_where_they_are_not_written() -> None:
    """d12 computes 6·N + Σ 12·768·window FLOPs a token: nine windows of 512, and three of 2048."""
    model = GPTConfig(depth=12, dim=768, n_head=6, n_kv_head=6, vocab_size=32768)
    n = 12 * 12 * 768**2 + 6 * 6 * 12 + 32768 * 768
    per_token = 6 * n + 12 * 768 * (9 * 512 + 3 * 2048)
    assert derivations.steps(12.0, 1e18, model, 2**19) == round(1e18 / per_token / 2**19)


def test_written_steps_come_before_flops_and_flops_before_tokens_a_parameter(tmp_path: Path) -> None:
    path = write(tmp_path, TINY.replace("steps = 5\n", ""))
    by_tokens, more = (
        value(load(path, f"stages.base.tokens_per_param={ratio}"), "stages.base.steps") for ratio in (200.0, 400.0)
    )
    assert more == pytest.approx(2 * by_tokens, abs=1)
    flops = "stages.base.target_flops=1e12"
    one, other = (
        value(load(path, flops, f"stages.base.tokens_per_param={r}"), "stages.base.steps") for r in (2.0, 4.0)
    )
    assert one == other != by_tokens
    assert value(load(path, flops, "stages.base.steps=7"), "stages.base.steps") == 7


def test_the_batch_does_not_follow_from_the_steps(tmp_path: Path) -> None:
    path = write(tmp_path, TINY.replace("total_batch_size = 4096\n", ""))
    batches = {value(load(path, f"stages.base.steps={n}"), "stages.base.total_batch_size") for n in (1, 100, 10_000)}
    assert len(batches) == 1


@pytest.mark.parametrize("steps", [100, 1_000, 10_000, 100_000])
def test_whatever_the_horizon_weights_are_forgotten_equally_often_but_never_faster_than_momentum_gives(
    steps: int,
) -> None:
    """lr·wd·steps of a d12 is .02·.28·D12/2^19, by hand 14.1; in short runs lr·wd is 1 − .95."""
    model = GPTConfig(depth=12, dim=768, n_head=6, n_kv_head=6, vocab_size=32768)
    n = 12 * 12 * 768**2 + 6 * 6 * 12 + 32768 * 768
    forgotten = 0.02 * 0.28 * 12 * n / 2**19
    decay = derivations.muon_weight_decay(12.0, model, 2**19, steps, 0.02, 1.0)
    assert 0.02 * decay == pytest.approx(min(forgotten / steps, 0.05))
    assert forgotten == pytest.approx(14.1, abs=0.1)


@pytest.mark.parametrize(
    "scale, expected", [([], 1.0), (["batch"], math.sqrt(2)), (["width"], 0.5), (["batch", "width"], math.sqrt(2) / 2)]
)
def test_learning_rates_follow_batch_and_width(scale: list[str], expected: float) -> None:
    assert derivations.lr_factor(scale, 2**20, 3072) == pytest.approx(expected)


def test_a_finetuning_stage_takes_the_width_of_the_model_that_it_starts_from(tmp_path: Path) -> None:
    text = TINY + '[stages.sft.optim.all]\nscale_lr = ["width"]\n'
    recipe = load(write(tmp_path, text))
    assert value(recipe, "stages.sft.optim.all.lr_factor") == pytest.approx((128 / 768) ** -0.5)
    assert value(recipe, "stages.sft.optim.all.scaled") == pytest.approx(0.1 * (128 / 768) ** -0.5)


def test_a_derived_value_knows_its_rule_and_inputs(tiny: Path) -> None:
    origin = load(tiny).values["stages", "base", "model", "dim"].origin
    assert (origin.kind, origin.rule) == ("derived", "gpt.dim")
    assert origin.inputs == {"depth": 2, "aspect_ratio": 64, "head_dim": 64}


def test_hardware_is_derived_from_the_machine_and_each_stage_may_have_its_own(tmp_path: Path) -> None:
    text = TINY.replace('device = "cpu"', 'device = "auto"') + '[stages.tok.hardware]\ndevice = "cpu"\n'
    recipe = load(write(tmp_path, text.replace("4096", "16384")), machine=EIGHT_GPUS)
    base, tok = recipe.stages["base"].hardware, recipe.stages["tok"].hardware
    assert (base.device, base.dtype, base.nproc_per_node) == ("cuda", "bfloat16", 8)
    assert (tok.device, tok.dtype, tok.nproc_per_node) == ("cpu", "float32", 1)


@pytest.mark.parametrize(
    "hardware, launcher",
    [
        ("nproc_per_node = 1", "local"),
        ("nproc_per_node = 2", "torchrun"),
        ("nproc_per_node = 1\nnodes = 2\nrendezvous = 'one:29500'", "torchrun"),
        ("nproc_per_node = 1\nlauncher = 'torchrun'", "torchrun"),
    ],
)
def test_an_agent_stands_over_several_processes_and_none_over_one(tmp_path: Path, hardware: str, launcher: str) -> None:
    recipe = load(write(tmp_path, TINY.replace("[hardware]", f"[hardware]\n{hardware}")))
    assert {stage.hardware.launcher for stage in recipe.stages.values()} == {launcher}
