"""Linears in int8: nearly the same model, in a quarter of the bytes."""

import pytest
import torch
import torch.nn.functional as F
from test_engine import TOKENIZER, make_model, random_prompt

from nanochat.errors import InputError
from nanochat.inference.engine import Engine
from nanochat.inference.int8 import Int8Linear, quantised
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
    own, rounded = (-(target * logits.log_softmax(-1)).sum(-1).mean() for logits in (before, after))
    assert 0 < float(rounded - own) < 0.01 * float(own)
    assert not [
        part for block in model.blocks for part in block.modules() if type(part) is Linear and part.out_features > 4
    ]


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
    with pytest.raises(InputError, match=r"E407.*int8"):
        quantised(model)
