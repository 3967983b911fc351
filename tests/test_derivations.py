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
    assert derivations.steps(8.0, model, batch) == round(8 * n / 2**20) == 5568


def test_depth_12_is_its_own_reference() -> None:
    model = GPTConfig(depth=12, dim=768, n_head=6, n_kv_head=6, vocab_size=32768)
    assert derivations.total_batch_size(model) == 2**19
    steps = derivations.steps(12.0, model, 2**19)
    assert derivations.muon_weight_decay(12.0, model, 2**19, steps) == pytest.approx(0.28, rel=1e-3)


def test_weight_decay_falls_with_the_tokens_and_grows_with_the_root_of_the_batch() -> None:
    """0.28·√(B/2^19)·D12/D, by hand for d24: D12/D = N12/N."""
    model = GPTConfig(depth=24, dim=1536, n_head=12, n_kv_head=12, vocab_size=32768)
    n = 24 * 12 * 1536**2 + 12 * 12 * 12 + 32768 * 1536
    n12 = 12 * 12 * 768**2 + 6 * 6 * 12 + 32768 * 768
    found = derivations.muon_weight_decay(8.0, model, 2**20, 5568)
    assert found == pytest.approx(0.28 * math.sqrt(2) * n12 / n, rel=1e-3)


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
