"""Latencies of answers: when each piece came, and what of it is at the middle and at the worst hundredth.

In: moments in seconds. Out: percentiles in seconds. Imports nothing heavy: the load generator uses it, too.
"""

import itertools
from collections.abc import Sequence

import attrs


@attrs.frozen
class Percentiles:
    """Seconds: the median, and what 99 of 100 do not exceed."""

    p50: float
    p99: float


@attrs.define
class Moments:
    """One answer: when it was asked for, and when each piece of it came, on one clock."""

    asked: float
    pieces: list[float] = attrs.field(factory=list)


def percentiles(values: Sequence[float]) -> Percentiles:
    """By nearest rank: of 10 values the worst stands for the worst hundredth. Nothing: zeros."""
    ordered = sorted(values)
    if not ordered:
        return Percentiles(0.0, 0.0)
    return Percentiles(ordered[(len(ordered) - 1) // 2], ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))])


def first(answers: Sequence[Moments]) -> Percentiles:
    """Time to the first piece."""
    return percentiles([answer.pieces[0] - answer.asked for answer in answers if answer.pieces])


def between(answers: Sequence[Moments]) -> Percentiles:
    """Time between one piece and the next."""
    return percentiles([b - a for answer in answers for a, b in itertools.pairwise(answer.pieces)])
