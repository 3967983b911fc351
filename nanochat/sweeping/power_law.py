"""Power laws: y ∝ x^a, a line in logarithms, and y = E + A·x^-a, which levels off.

In: positive numbers. Out: the law with 95 % intervals of its parameters: those of a regression line, by Student's t,
and those of the delta method. Too few points for a law, or for intervals, is said by None.
"""

import math
from collections.abc import Callable, Sequence

import attrs
import numpy as np

from nanochat.sweeping.student import LEVEL, quantile


@attrs.frozen(kw_only=True)
class Estimate:
    """A number that was fitted, and its interval of 95 %; none where every point was needed for the number."""

    value: float
    low: float | None = None
    high: float | None = None


@attrs.frozen(kw_only=True)
class PowerLaw:
    """y = exp(intercept) · x^exponent."""

    exponent: Estimate
    intercept: float
    centre: float
    """Mean of log x."""
    spread: float
    """Sum of the squared deviations of log x."""
    n: int
    deviation: float | None
    """s: the residuals' standard deviation, of log y; None of two points."""

    def at(self, x: float) -> Estimate:
        """y at x, with the interval of the line there."""
        along = math.log(x)
        value = self.intercept + self.exponent.value * along
        if self.deviation is None:
            return Estimate(value=math.exp(value))
        error = self.deviation * math.sqrt(1 / self.n + (along - self.centre) ** 2 / self.spread)
        half = quantile(LEVEL, self.n - 2) * error
        return Estimate(value=math.exp(value), low=math.exp(value - half), high=math.exp(value + half))


@attrs.frozen(kw_only=True)
class Saturating:
    """L(C) = E + A·C^-alpha."""

    floor: Estimate
    """E."""
    factor: float
    """A."""
    exponent: Estimate
    """alpha."""
    centre: float
    """Mean of log x."""
    covariance: Sequence[Sequence[float]] | None
    """Of E, A·exp(-alpha·centre) and alpha; None of three points."""
    freedom: int
    """Points beyond those three."""

    def at(self, x: float) -> Estimate:
        """L at x, with the interval of the curve there, by the delta method."""
        along, alpha = math.log(x) - self.centre, self.exponent.value
        fallen = self.factor * math.exp(-alpha * math.log(x))
        value = self.floor.value + fallen
        if self.covariance is None:
            return Estimate(value=value)
        gradient = np.array([1.0, math.exp(-alpha * along), -along * fallen])
        error = math.sqrt(max(0.0, float(gradient @ np.asarray(self.covariance) @ gradient)))
        half = quantile(LEVEL, self.freedom) * error
        return Estimate(value=value, low=value - half, high=value + half)


def power_law(x: Sequence[float], y: Sequence[float]) -> PowerLaw | None:
    """The line of least squares through the logarithms; None of fewer than two different x."""
    if len(set(x)) < 2:
        return None
    u, v = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    centre, spread = float(u.mean()), float(np.sum((u - u.mean()) ** 2))
    slope = float(np.sum((u - centre) * v)) / spread
    intercept, n = float(v.mean()) - slope * centre, len(u)
    deviation, exponent = None, Estimate(value=slope)
    if n > 2:
        deviation = math.sqrt(float(np.sum((v - intercept - slope * u) ** 2)) / (n - 2))
        half = quantile(LEVEL, n - 2) * deviation / math.sqrt(spread)
        exponent = Estimate(value=slope, low=slope - half, high=slope + half)
    return PowerLaw(exponent=exponent, intercept=intercept, centre=centre, spread=spread, n=n, deviation=deviation)


def saturating(x: Sequence[float], y: Sequence[float]) -> Saturating | None:
    """Least squares with E ≥ 0, A ≥ 0; None of fewer than three different x, or where y does not fall.

    For a given alpha it is linear in E and A, so that alpha alone is searched, on a grid and then by golden section.
    """
    if len(set(x)) < 3:
        return None
    u, v = np.log(np.asarray(x, float)), np.asarray(y, float)
    u0 = float(u.mean())  # A is carried at the middle of x: A·C^-alpha would run over many orders of magnitude

    def linear(alpha: float) -> tuple[float, float, float]:
        return _nonnegative(np.exp(-alpha * (u - u0)), v)

    grid = np.geomspace(1e-3, 3.0, 50)
    best = int(np.argmin([linear(alpha)[2] for alpha in grid]))
    alpha = _golden(lambda value: linear(value)[2], grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    floor, factor, squares = linear(alpha)
    if factor <= 0:
        return None
    covariance, freedom = _covariance(u - u0, factor, alpha, squares), len(u) - 3
    return Saturating(
        floor=_within(floor, covariance, freedom, 0),
        factor=factor * math.exp(alpha * u0),
        exponent=_within(alpha, covariance, freedom, 2),
        centre=u0,
        covariance=None if covariance is None else covariance.tolist(),
        freedom=freedom,
    )


def _nonnegative(column: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """E, A ≥ 0 with the least sum of squares of y − E − A·column, and that sum."""
    design = np.stack([np.ones_like(column), column], axis=1)
    (floor, factor), *_ = np.linalg.lstsq(design, y, rcond=None)
    if floor < 0:
        floor, factor = 0.0, float(column @ y / (column @ column))
    if factor < 0:
        floor, factor = float(y.mean()), 0.0
    return float(floor), float(factor), float(np.sum((y - floor - factor * column) ** 2))


def _covariance(u: np.ndarray, factor: float, alpha: float, squares: float) -> np.ndarray | None:
    """(3, 3), of E, A and alpha; None where every point is met."""
    freedom = len(u) - 3
    if freedom < 1:
        return None
    column = np.exp(-alpha * u)
    jacobian = np.stack([np.ones_like(u), column, -factor * u * column], axis=1)
    return np.asarray(np.linalg.pinv(jacobian.T @ jacobian) * squares / freedom)


def _within(value: float, covariance: np.ndarray | None, freedom: int, index: int) -> Estimate:
    if covariance is None:
        return Estimate(value=value)
    half = quantile(LEVEL, freedom) * math.sqrt(covariance[index, index])
    return Estimate(value=value, low=value - half, high=value + half)


def _golden(of: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one minimum between the ends has it."""
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(60):
        inner, outer = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, outer) if of(inner) < of(outer) else (inner, high)
    return (low + high) / 2
