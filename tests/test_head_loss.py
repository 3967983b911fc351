"""The loss that never holds all logits against torch's cross-entropy, in float64, over logits that are held whole."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from nanochat.model.gpt import GPT
from nanochat.model.head_loss import Head, head_loss
from nanochat.testing.tiny import tiny_model
from nanochat.training.step_memory import most_bytes

VOCABULARY, PADDED, WIDTH = 90, 96, 16


def whole(hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float, reduction: str) -> Tensor:
    """The definition: all logits, softcapped, and torch's cross-entropy."""
    logits = (hidden @ weight.T)[:, :VOCABULARY]
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    return F.cross_entropy(logits, targets, ignore_index=-1, reduction=reduction)


def drawn(tokens: int, masked: float, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, a head whose logits reach into the softcap, and targets of which a share is masked."""
    torch.manual_seed(0)
    targets = torch.randint(0, VOCABULARY, (tokens,))
    targets[torch.rand(tokens) < masked] = -1
    return torch.randn(tokens, WIDTH).to(dtype), 2 * torch.randn(PADDED, WIDTH), targets


@given(
    tokens=st.integers(1, 70),
    chunk=st.integers(1, 80),
    softcap=st.sampled_from([0.0, 1.0, 15.0]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    masked=st.sampled_from([0.0, 0.5]),
)
@settings(max_examples=60, deadline=None)
def test_loss_and_gradients_are_those_of_whole_logits_whatever_the_chunk(
    tokens: int, chunk: int, softcap: float, reduction: str, masked: float
) -> None:
    hidden, weight, targets = drawn(tokens, masked)
    targets[0] = 3  # a mean needs one
    exact = [hidden.double().requires_grad_(), weight.double().requires_grad_()]
    given = [hidden.requires_grad_(), weight.requires_grad_()]
    head = Head(vocabulary=VOCABULARY, softcap=softcap, chunk=chunk)
    expected = whole(exact[0], exact[1], targets, softcap, reduction)
    found = head_loss(given[0], given[1], targets, head, reduction=reduction)
    close = {"atol": 4e-6 + 3e-7 * softcap, "rtol": 1e-6}  # logits are known to some last bits of 20, or of 2·cap
    torch.testing.assert_close(found.double(), expected, **close)
    upstream = torch.linspace(-1.0, 2.0, found.numel()).view(found.shape)
    wanted = torch.autograd.grad(expected, exact, upstream.double())
    for mine, reference in zip(torch.autograd.grad(found, given, upstream), wanted, strict=True):
        torch.testing.assert_close(mine.double(), reference, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        without = head_loss(given[0], given[1], targets, head, reduction=reduction)
    torch.testing.assert_close(without.double(), expected, **close)


def test_in_bfloat16_the_products_are_rounded_and_the_loss_is_not() -> None:
    hidden, weight, targets = drawn(64, 0.0, torch.bfloat16)
    exact = [hidden.double().requires_grad_(), weight.to(torch.bfloat16).double().requires_grad_()]
    expected = whole(exact[0], exact[1], targets, 15.0, "sum")
    given = [hidden.requires_grad_(), weight.requires_grad_()]
    found = head_loss(given[0], given[1], targets, Head(vocabulary=VOCABULARY, softcap=15.0, chunk=20), reduction="sum")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=0, rtol=2e-3)  # logits have 8 bits
    for mine, reference in zip(torch.autograd.grad(found, given), torch.autograd.grad(expected, exact), strict=True):
        assert (mine.double() - reference).norm() < 1e-2 * reference.norm()


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_what_is_frozen_gets_no_gradient_and_the_other_its_own(frozen: str) -> None:
    hidden, weight, targets = drawn(20, 0.0)
    trained = weight if frozen == "hidden" else hidden
    trained.requires_grad_()
    head_loss(hidden, weight, targets, Head(vocabulary=VOCABULARY, softcap=15.0, chunk=7)).backward()
    mine, trained.grad = trained.grad, None
    whole(hidden, weight, targets, 15.0, "mean").backward()
    torch.testing.assert_close(mine, trained.grad)
    assert (hidden if frozen == "hidden" else weight).grad is None


@pytest.mark.parametrize("tied", [False, True])
def test_every_parameter_of_a_model_gets_the_gradient_of_whole_logits(tied: bool) -> None:
    def gradients(chunked: bool) -> dict[str, Tensor]:
        model: GPT = tiny_model(tied=tied, loss_chunk=11)
        ids = torch.randint(300, (2, 40), generator=torch.Generator().manual_seed(1))
        if chunked:
            model(ids, ids).backward()
        else:
            F.cross_entropy(model(ids).flatten(0, 1), ids.flatten()).backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    expected, found = gradients(chunked=False), gradients(chunked=True)
    assert found.keys() == expected.keys() == dict(tiny_model(tied=tied).named_parameters()).keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-5, rtol=1e-5)


def peak_bytes(chunk: int) -> int:
    """The most that torch's allocator holds in a forward and backward pass of a head over 2,048 tokens."""
    hidden, weight = torch.randn(2048, 32, requires_grad=True), torch.randn(4096, 32, requires_grad=True)
    targets = torch.randint(0, 4096, (2048,))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        head_loss(hidden, weight, targets, Head(vocabulary=4096, softcap=15.0, chunk=chunk), reduction="sum").backward()
    return most_bytes(profiler)


def test_a_chunk_of_logits_is_what_stands_in_memory() -> None:
    logits, outside = 2048 * 4096 * 4, (2048 + 4096) * 32 * 4  # bytes: of all logits; of both gradients
    assert logits <= peak_bytes(2048) < 1.2 * logits
    assert peak_bytes(128) < 1.2 * logits / 16 + 2 * outside
