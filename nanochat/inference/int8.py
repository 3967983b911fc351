"""Linear layers in int8 on a CPU: a quarter of the bytes to read, and the processor's integer products.

In: a model for inference. Out: the same model, its blocks' linears and its untied head replaced. Weights are rounded to
8 bits by output channel; activations are float32 outside, and quantised anew in each product over the whole batch, so
an answer then depends, within rounding, on its neighbours. So it is asked for, never the default.
"""

import itertools
import math
import warnings
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from nanochat.errors import wrong_input
from nanochat.model.gpt import GPT, Linear
from nanochat.text.tokenizer import Tokenizer

MOST_LOST = 0.05
"""Bits a token that rounding may cost: 3.5 % of perplexity."""
SAMPLE = """Whoever asks a small model a question should know what it can do. It has read some books, and can count to
100: 1, 2, 3 and so on. If you want to know how many letters there are in a word, it spells the word first. "Why?", you
may ask; because it sees words in pieces. On the other hand, it answers at once, and costs next to nothing.
"""
"""What the rounded model is tried on. How well it is foretold does not matter, only how much worse than before."""


_packed: "WeakValueDictionary[int, Int8Linear]" = WeakValueDictionary()
"""By number: torch's compiler takes no weights that are packed, and looks into no operator of ours."""
_numbers = itertools.count()
_library = torch.library.Library("nanochat", "FRAGMENT")
_library.define("int8_product(Tensor x, int number, int width) -> Tensor")


@torch.library.impl(_library, "int8_product", "CPU")
def _product(x: Tensor, number: int, _: int) -> Tensor:
    y: Tensor = torch.ops.quantized.linear_dynamic(x, _packed[number].packed, True)
    return y


@torch.library.impl(_library, "int8_product", "Meta")
def _shape(x: Tensor, _: int, width: int) -> Tensor:
    return x.new_empty(*x.shape[:-1], width)


class Int8Linear(nn.Module):
    """y = x·Wᵀ with W in int8."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        scales = weight.abs().amax(dim=1).clamp(min=1e-12) / 127  # (out,)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch means to move quantised tensors to another package
            zeros = torch.zeros(len(weight), dtype=torch.int64)
            rounded = torch.quantize_per_channel(weight, scales.double(), zeros, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(rounded, None)
        self.width, self.number = len(weight), next(_numbers)
        _packed[self.number] = self

    def forward(self, x: Tensor) -> Tensor:
        """x (…, in) float32 → (…, out)."""
        if torch.compiler.is_compiling():
            y: Tensor = torch.ops.nanochat.int8_product(x, self.number, self.width)
        else:  # without the detour through Python
            y = torch.ops.quantized.linear_dynamic(x, self.packed, True)
        return y


@torch.no_grad()
def quantised(model: GPT) -> GPT:
    """The model itself, changed. InputError E407 where it is not on a CPU in float32."""
    _refuse_others(model)
    for block in model.blocks:
        for part in block.children():
            for name in ("out", "up", "down"):
                if isinstance(linear := getattr(part, name, None), Linear):
                    setattr(part, name, Int8Linear(linear.weight.detach()))
        attention: Any = block.attn
        merged = [each.weight.detach() for each in (attention.q, attention.k, attention.v)]
        attention.qkv = Int8Linear(torch.cat(merged))
        del attention.q, attention.k, attention.v
    if not model.config.tied:
        setattr(model, "head", Int8Linear(model.head.weight.detach()))  # noqa: B010 (of another type)
    return model


def _refuse_others(model: GPT) -> None:
    if model.dtype != torch.float32 or next(model.parameters()).device.type != "cpu":
        raise wrong_input("E407", "int8 is for a CPU and float32", help="leave --int8 out")


@torch.no_grad()
def quantised_if_alike(model: GPT, tokenizer: Tokenizer) -> GPT:
    """The model itself, changed. InputError E407 as `quantised`, and where rounding loses too much of what it says."""
    _refuse_others(model)
    ids = torch.tensor([[tokenizer.bos_id, *tokenizer.encode(SAMPLE)][: model.config.sequence_len]])
    exact = model(ids).log_softmax(dim=-1)
    lost = lost_bits(exact, quantised(model)(ids).log_softmax(dim=-1))
    if not lost <= MOST_LOST:
        said = f"in int8 this model would be another one: {lost:.2g} bits a token are lost, {MOST_LOST} are allowed"
        raise wrong_input("E407", said, help="leave --int8 out")
    return model


def lost_bits(exact: Tensor, rounded: Tensor) -> float:
    """The mean of KL(exact ‖ rounded) over tokens, in bits. Both (…, V): logarithms of probabilities, base e."""
    return float((exact.exp() * (exact - rounded)).sum(dim=-1).mean()) / math.log(2)
