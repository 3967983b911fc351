"""Runs of equal compute compared: which size is best for each budget (Hoffmann et al. 2022, arXiv 2203.15556, their
second approach).

In: points, each a trained model's size, tokens, FLOPs and loss. Out: for each budget the minimum of the parabola
through loss against log N, with its standard error, or why there is none. Nothing is fitted to fewer than three sizes,
nothing is taken from a parabola that opens downward or whose minimum lies beyond the sizes that were tried.
"""

import math
from collections.abc import Sequence

import attrs
import numpy as np

SAME_BUDGET = 0.1
"""Points whose FLOPs differ by no more than this share are of one budget: a run has whole steps."""
LEAST_SIZES = 3


@attrs.frozen(kw_only=True)
class Point:
    """One trained model."""

    parameters: float
    """N: those in a matrix product for every token, the blocks' and the head's."""
    tokens: float
    """D."""
    flops: float
    """C, of the training."""
    loss: float


@attrs.frozen(kw_only=True)
class Budget:
    """The points of one budget, and its best size."""

    flops: float
    """The points' geometric mean."""
    points: Sequence[Point]
    coefficients: tuple[float, float, float] | None = None
    """loss = a + b·x + c·x², x = log N; None where there are too few sizes."""
    parameters: float | None = None
    """N of the minimum; None: see `fault`."""
    tokens: float | None = None
    """D there."""
    loss: float | None = None
    log_error: float | None = None
    """Standard error of log N of the minimum, by the delta method; None where the parabola meets every point."""
    fault: str = ""

    @property
    def ratio(self) -> float | None:
        """Tokens a parameter of the minimum."""
        return self.tokens / self.parameters if self.tokens and self.parameters else None


def budgets(points: Sequence[Point]) -> list[Budget]:
    """The points by budget, the smallest first, each with its minimum."""
    groups: list[list[Point]] = []
    for point in sorted(points, key=lambda point: point.flops):
        if groups and point.flops <= groups[-1][0].flops * (1 + SAME_BUDGET):
            groups[-1].append(point)
        else:
            groups.append([point])
    return [_with_minimum(group) for group in groups]


def _with_minimum(points: Sequence[Point]) -> Budget:
    sizes = sorted({point.parameters for point in points})
    budget = Budget(flops=math.exp(np.mean([math.log(point.flops) for point in points])), points=points)
    if len(sizes) < LEAST_SIZES:
        return attrs.evolve(budget, fault=f"{len(sizes)} of the {LEAST_SIZES} sizes that a parabola takes")
    x = np.log([point.parameters for point in points])
    y = np.array([point.loss for point in points])
    centre = x.mean()
    design = np.vander(x - centre, 3, increasing=True)
    (a, b, c), *_ = np.linalg.lstsq(design, y, rcond=None)
    moved = (float(a - b * centre + c * centre**2), float(b - 2 * c * centre), float(c))
    budget = attrs.evolve(budget, coefficients=moved)
    if c <= 0:
        return attrs.evolve(budget, fault="the parabola opens downward: these losses have no minimum")
    at = centre - b / (2 * c)
    if not x.min() <= at <= x.max():
        side, beyond = ("below", "smaller") if at < x.min() else ("above", "larger")
        return attrs.evolve(budget, fault=f"the minimum lies {side} all sizes: try {beyond} ones")
    log_tokens = np.interp(at, *_mean_tokens(points))
    return attrs.evolve(
        budget,
        parameters=math.exp(at),
        tokens=math.exp(log_tokens),
        loss=float(a - b**2 / (4 * c)),
        log_error=_log_error(design, y, np.array([a, b, c])),
    )


def _log_error(design: np.ndarray, y: np.ndarray, coefficients: np.ndarray) -> float | None:
    """Of −b/2c: ∇ᵀ Σ ∇ with Σ = s² (XᵀX)⁻¹."""
    freedom = len(y) - 3
    if freedom < 1:
        return None
    _, b, c = coefficients
    variance = float(np.sum((y - design @ coefficients) ** 2)) / freedom
    gradient = np.array([0.0, -1 / (2 * c), b / (2 * c**2)])
    return math.sqrt(variance * float(gradient @ np.linalg.inv(design.T @ design) @ gradient))


def _mean_tokens(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """log N → log D, the mean of the points of each size."""
    sizes = sorted({point.parameters for point in points})
    tokens = [np.mean([math.log(p.tokens) for p in points if p.parameters == size]) for size in sizes]
    return [math.log(size) for size in sizes], [float(mean) for mean in tokens]
