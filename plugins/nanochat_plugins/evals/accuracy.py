"""The share of examples that are solved, and how sure it is."""

import math

from nanochat.stages.context import Figure


def accuracy(solved: float, n: int, data: str = "") -> Figure:
    """A mean of n scores in [0, 1], of which 0 and 1 are usual, with its binomial standard error √(p(1−p)/n).

    For scores in between the error is too large rather than too small. data: the digest of what was measured on.
    """
    value = solved / n
    return Figure(value=value, n=n, standard_error=math.sqrt(max(0.0, value * (1 - value)) / n), data=data)
