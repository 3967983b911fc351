"""Norm, rotation and relu² with gradients written by hand, against torch's operations and float64."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nanochat.model.attention import rotary_tables
from nanochat.model.pointwise import norm, relu_squared, rotate

COS, SIN = (table[None, :, None] for table in rotary_tables(5, 8, 10_000.0))  # (1, T, 1, D/2)


def plain_norm(x: Tensor) -> Tensor:
    return x.double() / (x.double().square().mean(dim=-1, keepdim=True) + torch.finfo(x.dtype).eps).sqrt()


def plain_rotation(x: Tensor) -> Tensor:
    pairs = torch.complex(x[..., :4].double(), x[..., 4:].double())
    turned = pairs * torch.complex(COS.double(), -SIN.double())
    return torch.cat((turned.real, turned.imag), dim=-1)


def plain_relu_squared(x: Tensor) -> Tensor:
    return x.double().clamp(min=0) ** 2


OPERATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "norm": (norm, plain_norm),
    "rotate": (lambda x: rotate(x, COS.to(x.dtype), SIN.to(x.dtype)), plain_rotation),
    "relu_squared": (relu_squared, plain_relu_squared),
}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}


def drawn(seed: int, scale: float, dtype: torch.dtype) -> Tensor:
    return (scale * torch.randn(2, 5, 3, 8, generator=torch.Generator().manual_seed(seed))).to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("operation", OPERATIONS)
@settings(deadline=None)  # torch's first backward pass imports for seconds
@given(seed=st.integers(0, 2**32), scale=st.sampled_from([1e-3, 1.0, 30.0]))
def test_value_and_gradient_are_the_formulas_in_float64(
    operation: str, dtype: torch.dtype, seed: int, scale: float
) -> None:
    by_hand, plain = OPERATIONS[operation]
    x, upstream = drawn(seed, scale, dtype).requires_grad_(), drawn(seed + 1, 1.0, dtype)
    exact = x.detach().clone().requires_grad_()
    y, expected = by_hand(x), plain(exact)
    y.backward(upstream)
    expected.backward(upstream.double())
    assert y.dtype == x.grad.dtype == dtype
    for found, wanted in ((y, expected), (x.grad, exact.grad)):
        size = max(float(wanted.detach().abs().max()), 1e-6)
        torch.testing.assert_close(found.double() / size, wanted.double() / size, atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_has_no_gradient_is_the_same_up_to_rounding(operation: str) -> None:
    by_hand, _ = OPERATIONS[operation]
    x = drawn(0, 1.0, torch.float32)
    torch.testing.assert_close(by_hand(x.clone().requires_grad_()).detach(), by_hand(x))


def test_a_row_of_zeros_has_a_norm_of_zeros_and_a_finite_gradient() -> None:
    x = torch.zeros(3, 8, requires_grad=True)
    y = norm(x)
    y.sum().backward()
    assert torch.equal(y, torch.zeros(3, 8))
    (expected,) = torch.autograd.grad(F.rms_norm(x, (8,)).sum(), x)
    torch.testing.assert_close(x.grad, expected)


def test_inputs_are_left_as_they_were() -> None:
    for by_hand, _ in OPERATIONS.values():
        x = drawn(0, 1.0, torch.float32)
        given = x.clone().requires_grad_()
        by_hand(given).sum().backward()
        assert torch.equal(given, x)
