"""Student's t: how wide an interval is for a mean of few values.

In: values. Out: the half-width of the interval that covers their expectation in 95 of 100 such samples, for values that
are normally distributed. scipy would be 40 MB for this one function; the tests compare with it.
"""

import math
import statistics
from collections.abc import Sequence

LEVEL = 0.95
_TINY = 1e-300


def half_width(values: Sequence[float], level: float = LEVEL) -> float | None:
    """Half the width of the mean's interval; None of fewer than two values."""
    n = len(values)
    return quantile(level, n - 1) * statistics.stdev(values) / math.sqrt(n) if n > 1 else None


def quantile(level: float, freedom: float) -> float:
    """The t that |T| stays below with probability `level`, T with so many degrees of freedom."""
    low, high = 0.0, 1.0
    while _within(high, freedom) < level:
        high *= 2
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return high


def _within(t: float, freedom: float) -> float:
    """P(|T| < t) = 1 − I_x(ν/2, ½), x = ν / (ν + t²): Abramowitz and Stegun 26.7.1 and 26.5.27."""
    return 1 - _beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def _beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function, by its continued fraction where that converges fast."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    """Abramowitz and Stegun 26.5.8, evaluated from the front by Lentz's method."""
    value = denominator = 1.0 / _not_zero(1 - (a + b) * x / (a + 1))
    numerator = 1.0
    for m in range(1, 500):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            denominator = 1.0 / _not_zero(1 + term * denominator)
            numerator = _not_zero(1 + term / numerator)
            step = numerator * denominator
            value *= step
        if abs(step - 1) < 1e-15:
            break
    return value


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
