"""L(N, D) = E + A/N^alpha + B/D^beta, fitted to all runs at once (Hoffmann et al. 2022, arXiv 2203.15556, their third
approach).

In: points. Out: the five parameters with 95 % intervals, and what they say of a budget of compute: the best N and D.
The Huber loss, delta 1e-3, of log L is least, with log L as a log-sum-exp; from several starts, by the
Levenberg–Marquardt method with the weights of Huber's loss. Intervals are those of a residual bootstrap. Besiroglu
et al. 2024 (arXiv 2404.10102) say what a fit loses that stops early: these go on until nothing changes.
"""

import math
from collections.abc import Sequence

import attrs
import numpy as np

from nanochat.sweeping.isoflop import Point
from nanochat.sweeping.power_law import Estimate
from nanochat.sweeping.student import LEVEL, quantile

DELTA = 1e-3
LEAST_POINTS = 6
"""One more than there are parameters."""
RESAMPLES = 200
_ITERATIONS = 300
_STUCK = 1e6
"""A step so short that it gains nothing."""


@attrs.frozen(kw_only=True)
class Parametric:
    """The law."""

    floor: Estimate
    """E."""
    size_factor: Estimate
    """A."""
    token_factor: Estimate
    """B."""
    size_exponent: Estimate
    """alpha."""
    token_exponent: Estimate
    """beta."""
    size_share: Estimate
    """a of N_opt ∝ C^a: beta / (alpha + beta)."""
    token_share: Estimate
    """b of D_opt ∝ C^b: alpha / (alpha + beta)."""
    error: float
    """Root of the mean square of log L's residuals."""

    def loss(self, parameters: float, tokens: float) -> float:
        """L(N, D)."""
        of_size = self.size_factor.value * math.pow(parameters, -self.size_exponent.value)
        return self.floor.value + of_size + self.token_factor.value * math.pow(tokens, -self.token_exponent.value)

    def best(self, flops: float, flops_each: float) -> tuple[float, float]:
        """N and D with the least loss for C = flops_each · N · D."""
        alpha, beta = self.size_exponent.value, self.token_exponent.value
        g = (alpha * self.size_factor.value / (beta * self.token_factor.value)) ** (1 / (alpha + beta))
        pairs = flops / flops_each
        size = g * pairs ** (beta / (alpha + beta))
        return size, pairs / size


def parametric(points: Sequence[Point], resamples: int = RESAMPLES, seed: int = 0) -> Parametric | str:
    """The fit; a sentence where there is none."""
    if len(points) < LEAST_POINTS:
        return f"{len(points)} of the {LEAST_POINTS} runs that five parameters take"
    if len({p.parameters for p in points}) < 3 or len({round(math.log(p.tokens), 2) for p in points}) < 3:
        return "it takes three sizes and three numbers of tokens"
    n, d = np.log([p.parameters for p in points]), np.log([p.tokens for p in points])
    y = np.log([[p.loss for p in points]])
    scaled = _Scaled(n - n.mean(), d - d.mean())
    starts = scaled.starts(y[0])
    fitted = scaled.fit(starts, np.repeat(y, len(starts), axis=0))
    best = fitted[int(np.argmin(scaled.objective(fitted, y)))]
    if not (best[3] > 0 and best[4] > 0):
        return "the loss does not fall with size, or not with tokens"
    residuals = y[0] - scaled.predicted(best[None])[0]
    freedom = len(points) - 5
    generator = np.random.default_rng(seed)
    noise = generator.choice(residuals - residuals.mean(), (resamples, len(points))) * math.sqrt(len(points) / freedom)
    again = scaled.fit(np.repeat(best[None], resamples, axis=0), y - residuals + noise)
    return _law(best, again, n.mean(), d.mean(), residuals)


def _law(best: np.ndarray, again: np.ndarray, n: float, d: float, residuals: np.ndarray) -> Parametric:
    """In the units of the points: fitted were E, A and B at the points' mean log N and log D."""
    freedom = len(residuals) - 5

    def estimate(of: np.ndarray, resampled: np.ndarray, *, log: bool = False) -> Estimate:
        half = quantile(LEVEL, freedom) * float(np.std(resampled, ddof=1))
        ends = [float(of), float(of) - half, float(of) + half]
        value, low, high = (math.exp(min(end, 700.0)) for end in ends) if log else ends
        return Estimate(value=value, low=low, high=high)

    def share(parameters: np.ndarray, own: int) -> np.ndarray:
        return np.asarray(parameters[..., own] / (parameters[..., 3] + parameters[..., 4]))

    factors = [p[..., i] + p[..., i + 2] * mean for i, mean in ((1, n), (2, d)) for p in (best, again)]
    return Parametric(
        floor=estimate(best[0], again[:, 0], log=True),
        size_factor=estimate(factors[0], factors[1], log=True),
        token_factor=estimate(factors[2], factors[3], log=True),
        size_exponent=estimate(best[3], again[:, 3]),
        token_exponent=estimate(best[4], again[:, 4]),
        size_share=estimate(share(best, 4), share(again, 4)),
        token_share=estimate(share(best, 3), share(again, 3)),
        error=float(np.sqrt(np.mean(residuals**2))),
    )


@attrs.frozen
class _Scaled:
    """Many fits at once: parameters (F, 5) are log E, log A, log B, alpha, beta, with log N and log D around 0."""

    n: np.ndarray  # (P,)
    d: np.ndarray  # (P,)

    def terms(self, parameters: np.ndarray) -> np.ndarray:
        """The logarithms of the three addends: (F, P, 3)."""
        e, a, b, alpha, beta = parameters.T[:, :, None]
        return np.stack(np.broadcast_arrays(e, a - alpha * self.n, b - beta * self.d), axis=2)

    def predicted(self, parameters: np.ndarray) -> np.ndarray:
        """log L: (F, P)."""
        terms = self.terms(parameters)
        top = terms.max(axis=2)
        return np.asarray(top + np.log(np.exp(terms - top[:, :, None]).sum(axis=2)))

    def objective(self, parameters: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The sum of Huber's loss: (F,)."""
        r = np.abs(y - self.predicted(parameters))
        return np.asarray(np.where(r <= DELTA, r**2 / 2, DELTA * (r - DELTA / 2)).sum(axis=1))

    def fit(self, parameters: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Levenberg–Marquardt from each start, to each row of y (F, P), until nothing changes."""
        parameters, damping = parameters.copy(), np.full(len(parameters), 1e-2)
        value = self.objective(parameters, y)
        going = np.arange(len(parameters))
        for _ in range(_ITERATIONS):
            tried = self._step(parameters[going], y[going], damping[going])
            new, old = self.objective(tried, y[going]), value[going]
            better = new < old
            parameters[going[better]], value[going[better]] = tried[better], new[better]
            damping[going] = np.clip(damping[going] * np.where(better, 1 / 3, 4), 1e-12, _STUCK)
            ended = (better & (old - new < 1e-9 * old)) | (damping[going] >= _STUCK)
            going = going[~ended]
            if not len(going):
                break
        return parameters

    def _step(self, parameters: np.ndarray, y: np.ndarray, damping: np.ndarray) -> np.ndarray:
        """The parameters after one damped step."""
        predicted = self.predicted(parameters)
        shares = np.exp(self.terms(parameters) - predicted[:, :, None])  # (F, P, 3): of each addend in L
        jacobian = np.concatenate([shares, shares[:, :, 1:] * -np.stack([self.n, self.d], axis=1)], axis=2)
        r = y - predicted
        weighted = jacobian * np.minimum(1, DELTA / np.maximum(np.abs(r), 1e-300))[:, :, None]
        normal = weighted.transpose(0, 2, 1) @ jacobian  # (F, 5, 5)
        ridge = damping[:, None] * (np.einsum("fii->fi", normal) + 1e-12)
        right = (weighted * r[:, :, None]).sum(axis=1)[..., None]
        step = np.linalg.solve(normal + ridge[:, :, None] * np.eye(5), right)[..., 0]
        return np.asarray(np.clip(parameters + np.clip(step, -1, 1), -30, 30))

    def starts(self, y: np.ndarray) -> np.ndarray:
        """Exponents on a grid; E as a share of the least loss, A and B half of what is left."""
        found = []
        for alpha in (0.1, 0.3, 0.8):
            for beta in (0.1, 0.3, 0.8):
                for share in (0.3, 0.9):
                    floor = share * math.exp(y.min())
                    rest = math.log((math.exp(y.mean()) - floor) / 2)
                    found.append([math.log(floor), rest, rest, alpha, beta])
        return np.array(found)
