"""The share of examples that are solved, how sure it is, and the mean of several such."""

import hashlib
import math
from collections.abc import Sequence

import attrs

from nanochat.stages.context import Figure


def accuracy(solved: float, n: int, data: str = "") -> Figure:
    """A mean of n scores in [0, 1], of which 0 and 1 are usual, with its binomial standard error √(p(1−p)/n).

    For scores in between the error is too large rather than too small. data: the digest of what was measured on.
    """
    value = solved / n
    return Figure(value=value, n=n, standard_error=math.sqrt(max(0.0, value * (1 - value)) / n), data=data)


def centred(figure: Figure, baseline: float) -> Figure:
    """An accuracy of which guessing is 0, (a − b) / (1 − b), and its error (arXiv 2406.11794)."""
    error = None if figure.standard_error is None else figure.standard_error / (1 - baseline)
    return attrs.evolve(figure, value=(figure.value - baseline) / (1 - baseline), standard_error=error)


def mean_of(figures: Sequence[Figure], data: str = "") -> Figure:
    """The plain mean of figures that were measured on different examples, and the error of independent ones.

    data: the digest of what all of them were measured on; without it, one of theirs.
    """
    error = math.sqrt(sum((figure.standard_error or 0.0) ** 2 for figure in figures)) / len(figures)
    return Figure(
        value=sum(figure.value for figure in figures) / len(figures),
        n=sum(figure.n for figure in figures),
        standard_error=error,
        data=data or hashlib.sha256("".join(figure.data for figure in figures).encode()).hexdigest(),
    )
