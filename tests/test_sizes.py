"""Parameters and FLOPs of the field's usual depths, against its published formulas and against the real module."""

import math

import pytest
import torch

from nanochat.model.gpt import GPT
from nanochat.model.gpt_config import GPTConfig
from nanochat.model.sizes import matrix_parameters, parameters

DEPTHS = (20, 24, 26, 32)


def current(depth: int) -> GPTConfig:
    heads = depth // 2
    return GPTConfig(depth=depth, dim=64 * depth, n_head=heads, n_kv_head=heads, vocab_size=32_768)


def classic(depth: int) -> GPTConfig:
    heads = depth // 2
    return GPTConfig(
        depth=depth,
        dim=64 * depth,
        n_head=heads,
        n_kv_head=heads,
        vocab_size=65_536,
        window_pattern="L",
        value_embeddings=False,
        residual_lambdas=False,
        smear=False,
        backout=False,
    )


def test_the_classic_d20_has_its_published_561_million_parameters() -> None:
    assert round(parameters(classic(20).layout()) / 1e6) == 561


@pytest.mark.parametrize("depth", DEPTHS)
def test_current_parameters_follow_from_depth_and_vocabulary(depth: int) -> None:
    d, vocabulary = 64 * depth, 32_768
    value_blocks = depth // 2  # every second one
    blocks = 12 * depth * d**2 + value_blocks * 12 * (d // 128)  # 4 d² of attention, 8 d² of the MLP; the gates
    tables = (2 + value_blocks) * vocabulary * d  # embedding, head, value embeddings
    scalars = 2 * depth + 24 + 1 + 1  # λr and λ0, smear's gate and λ, backout's λ

    assert matrix_parameters(current(depth).layout()) == blocks + vocabulary * d
    assert parameters(current(depth).layout()) == blocks + tables + scalars


@pytest.mark.parametrize("depth", DEPTHS)
def test_flops_a_token_are_six_for_each_matmul_parameter_and_twelve_for_each_width_and_key(depth: int) -> None:
    d, sequence, short = 64 * depth, 2048, 512
    layers = ["SSSL"[i % 4] for i in range(depth - 1)] + ["L"]
    keys = sum(short if layer == "S" else sequence for layer in layers)
    gates = depth // 2 * 12 * (d // 128)

    assert current(depth).flops_per_token() == 6 * (12 * depth * d**2 + gates + 32_768 * d) + 12 * d * keys
    assert classic(depth).flops_per_token() == 6 * (12 * depth * d**2 + 65_536 * d) + 12 * d * depth * sequence


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("make", [current, classic])
def test_the_layout_is_that_of_the_real_module(make: type, depth: int) -> None:
    config = make(depth)
    with torch.device("meta"):
        module = GPT(config)

    assert {name: tuple(p.shape) for name, p in module.named_parameters()} == config.layout()
    assert sum(p.numel() for p in module.parameters()) == parameters(config.layout())
    assert math.prod(module.head.weight.shape) == config.padded_vocab_size * config.dim
