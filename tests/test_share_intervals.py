"""Intervals of shares in a report: Wilson's, by his own definition, and from a standard error what it stands for."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.reporting.evaluations import NORMAL_95, interval


@given(n=st.integers(1, 100_000), data=st.data())
def test_its_ends_are_the_shares_that_are_just_not_refuted(n: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, n))
    share = right / n
    low, high = interval(share, math.sqrt(share * (1 - share) / n), n)
    assert -1e-12 <= low <= share <= high + 1e-12 <= 1 + 2e-12
    for end in (low, high):
        assert (share - end) ** 2 == pytest.approx(NORMAL_95**2 * end * (1 - end) / n, abs=1e-12)


def test_all_right_is_not_certainty() -> None:
    assert list(interval(1.0, 0.0, 200)) == pytest.approx([0.9812, 1.0], abs=1e-4)
    assert list(interval(0.0, 0.0, 200)) == pytest.approx([0.0, 0.0188], abs=1e-4)


def test_an_error_of_dependent_examples_widens_it() -> None:
    independent, clustered = interval(0.5, 0.05, 100), interval(0.5, 0.1, 100)
    assert clustered[1] - clustered[0] > 1.8 * (independent[1] - independent[0])


def test_what_is_no_share_has_the_normal_one() -> None:
    assert list(interval(-0.02, 0.01, 50)) == pytest.approx([-0.0396, -0.0004])
    assert interval(1.0, 0.0, None) == (1.0, 1.0)
