"""Parameters and FLOPs of the field's usual depths, against its published formulas and against the real module."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from nanochat.inference import kv
from nanochat.inference.kv import KVCache
from nanochat.model.attention_backends import Dense
from nanochat.model.gpt import GPT
from nanochat.model.gpt_config import GPTConfig
from nanochat.model.sizes import decode_bytes, matrix_parameters, parameters, weight_bytes
from nanochat.testing.tiny import tiny_model

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


@pytest.mark.parametrize(
    "switches", [{}, {"n_kv_head": 1}, {"tied": True}, {"value_embeddings": False, "smear": False}]
)
def test_flops_by_formula_are_those_that_torch_counts(switches: dict[str, Any]) -> None:
    shape = {"depth": 3, "sequence_len": 160, "vocab_size": 320, "window_pattern": "L"}
    config = tiny_model(**shape, **switches).config
    model = GPT(config, torch.bfloat16, Dense())  # in float32, the head's gradient is summed up in place, uncounted
    ids = torch.randint(320, (2, 160))
    with FlopCounterMode(display=False) as counter:
        model(ids, ids).backward()
    counted = counter.get_total_flops()
    # Smear's gate is in no block; attention's backward pass computes its weights again, five products and not four.
    attention = 12 * config.dim * 160 * config.depth * ids.numel()
    expected = config.flops_per_token() * ids.numel() + attention / 6
    assert counted == pytest.approx(expected, rel=2e-3)


class WeightsRead(TorchDispatchMode):
    """Counts the numbers of the parameters that matrix products take."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.known = {p.untyped_storage().data_ptr(): p.numel() for p in model.parameters()}
        self.numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        if function in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default):
            places = [x.untyped_storage().data_ptr() for x in arguments if isinstance(x, torch.Tensor)]
            self.numbers += sum(self.known.get(place, 0) for place in places)
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize("switches", [{}, {"n_kv_head": 1}, {"tied": True}, {"smear": False}])
@pytest.mark.parametrize("context", [1, 100, 160])
def test_bytes_of_decoding_by_formula_are_those_that_a_step_through_the_cache_reads(
    monkeypatch: pytest.MonkeyPatch, switches: dict[str, Any], context: int
) -> None:
    model = tiny_model(depth=5, sequence_len=160, short_window=0.1, vocab_size=320, **switches).eval()
    assert 128 in model.config.windows()
    cache, read = KVCache(model, slots=1, positions=160, device=torch.device("cpu")), list[int]()
    attend = kv.attend

    def counting(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        read.append(k.numel() + v.numel())
        return attend(q, k, v, mask)

    monkeypatch.setattr(kv, "attend", counting)
    with torch.no_grad(), WeightsRead(model) as weights:
        model.logits(model.hidden(torch.tensor([[7]]), cache.view([0], [context - 1], [5], 1)))
    assert decode_bytes(model.config, context, element_bytes=4) == (4 * weights.numbers, 4 * sum(read))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_bytes_of_the_weights_by_formula_are_those_that_the_module_holds(dtype: str) -> None:
    model = tiny_model(embedding_dtype=dtype)
    assert weight_bytes(model.config) == sum(p.numel() * p.element_size() for p in model.parameters())
