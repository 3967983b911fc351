"""What a recipe asks of the model or its device that cannot be: said by name, with the remedy, when it is planned."""

from pathlib import Path

import pytest

from nanochat.errors import InputError
from nanochat.hardware import Machine, missing
from nanochat.recipe.load import load_recipe

RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.toml"
MODEL = "stages.base.model"


@pytest.mark.parametrize(
    "overrides, code, said",
    [
        (["depth=0"], "E104", "depth is 0, but it is at least 1"),
        (["short_window=1.5"], "E104", "short_window is 1.5, but it is at most 1"),
        (["window_pattern=SXL"], "E115", "window_pattern 'SXL' may hold only S and L"),
        (["n_head=5"], "E115", "n_head × head_dim is 5 × 64 = 320, but dim is 192: make them equal"),
        (["n_kv_head=2"], "E115", "n_head (3) must be a multiple of n_kv_head (2)"),
        (["head_dim=3", "dim=192"], "E115", "head_dim (3) must be even: rotary embeddings turn pairs"),
        (["logit_softcap=0.5"], "E115", "logit_softcap (0.5) must be 0 (off) or at least 1"),
        (["embedding_dtype=bfloat16", "tied=true"], "E115", 'embedding_dtype "bfloat16" would round the head'),
        (["vocab_size=500"], "E115", "vocab_size is 500, but its tokenizer, stage:tok, may have 2048 ids"),
        (["loss_chunk=-1"], "E104", "loss_chunk is -1, but it is at least 0"),
    ],
)
def test_a_model_that_cannot_be_is_refused_by_the_key_and_its_remedy(
    overrides: list[str], code: str, said: str
) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe(RECIPE, overrides=[f"{MODEL}.{override}" for override in overrides])
    found = caught.value.diagnostics[0]
    assert found.code == code
    assert said in found.message
    assert found.location is not None and overrides[0].partition("=")[0] in found.location.text


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_no_window_is_longer_than_a_row(share: float) -> None:
    recipe = load_recipe(RECIPE, overrides=[f"{MODEL}.short_window={share}", f"{MODEL}.sequence_len=64"])
    assert max(recipe.stages["base"].config.model.config.windows()) <= 64


@pytest.mark.parametrize(
    "override, said",
    [
        ("hardware.dtype=float8", 'hardware.dtype is "float8", but it is one of'),
        ("hardware.attention=flash5", 'hardware.attention is "flash5", but it is one of'),
        ("hardware.matmul_precision=low", 'hardware.matmul_precision is "low", but it is one of'),
    ],
)
def test_what_no_device_has_is_refused_with_what_there_is(override: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe(RECIPE, overrides=[override])
    assert said in caught.value.diagnostics[0].message


def test_bfloat16_is_possible_on_a_cpu_where_it_is_asked_for() -> None:
    machine = Machine(cuda_devices=0, mps=False, cpu_cores=2, memory_bytes=2**33, name="bare")
    recipe = load_recipe(RECIPE, overrides=["hardware.dtype=bfloat16"], machine=machine)
    assert recipe.stages["base"].hardware.dtype == "bfloat16"
    assert missing(recipe.stages["base"].hardware, machine) == ""
