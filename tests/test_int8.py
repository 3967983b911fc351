"""Linears in int8: nearly the same model, in a quarter of the bytes."""

import math

import pytest
import torch
import torch.nn.functional as F
from test_engine import TOKENIZER, make_model, random_prompt

from nanochat.errors import InputError
from nanochat.inference.engine import Engine
from nanochat.inference.int8 import Int8Linear, lost_bits, quantised, quantised_if_alike
from nanochat.inference.sampling import Sampling
from nanochat.model.gpt import Linear
from nanochat.runtime import local_runtime


@torch.no_grad()
@pytest.mark.parametrize("tied", [False, True])
def test_bits_a_token_hardly_change_in_int8(tied: bool) -> None:
    model = make_model(tied=tied)
    ids = torch.tensor([random_prompt(128, seed) for seed in range(4)])
    before = model(ids)
    after = quantised(model)(ids)
    # How well the rounded model predicts what the exact one would say, against how well that predicts itself.
    target = before.softmax(-1)
    own, rounded = (-(target * logits.log_softmax(-1)).sum(-1).mean() / math.log(2) for logits in (before, after))
    assert 0 < float(rounded - own) < 0.01 * float(own)
    assert lost_bits(before.log_softmax(-1), after.log_softmax(-1)) == pytest.approx(float(rounded - own), rel=1e-2)
    assert not [
        part for block in model.blocks for part in block.modules() if type(part) is Linear and part.out_features > 4
    ]


@torch.no_grad()
def test_a_model_that_rounding_would_change_is_refused_and_any_other_is_rounded() -> None:
    assert isinstance(quantised_if_alike(make_model(), TOKENIZER).blocks[0].mlp.up, Int8Linear)
    outlying = make_model()
    for block in outlying.blocks:
        for linear in (block.mlp.up, block.mlp.down, block.attn.v, block.attn.out):
            linear.weight[:, 0] = 200 * linear.weight.abs().max()  # all others in its row are rounded to 0
    with pytest.raises(InputError, match=r"E407.*in int8 this model would be another one: .* bits a token are lost"):
        quantised_if_alike(outlying, TOKENIZER)


def test_a_product_is_as_exact_as_eight_bits_allow() -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(64, 48), torch.randn(5, 3, 48)
    found, exact = Int8Linear(weight)(x), F.linear(x, weight)
    assert float((found - exact).norm() / exact.norm()) < 0.02


def test_an_engine_answers_by_it_and_other_dtypes_are_refused() -> None:
    engine = Engine(quantised(make_model()), TOKENIZER, local_runtime(), rows=2)
    assert len(engine.generate([random_prompt(20, 1)] * 3, Sampling(max_tokens=5))[2].ids) == 5
    model = make_model()
    model.dtype = torch.bfloat16
    for other in (model, make_model().to("meta")):
        for way in (quantised, lambda each: quantised_if_alike(each, TOKENIZER)):
            with pytest.raises(InputError, match=r"E407.*int8 is for a CPU"):
                way(other)
