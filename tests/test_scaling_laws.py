"""Scaling laws: known exponents are found again, within the interval as often as it says; what cannot be is named.

The curves are Hoffmann's (E 1.69, A 406.4, B 410.7, alpha 0.34, beta 0.28) and others; the oracles are the closed form
of the best size, numpy.polyfit and scipy.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.cli.sweeps import command
from nanochat.errors import InputError
from nanochat.reporting.document import Pictures, Table, Text
from nanochat.reporting.laws_report import laws_blocks
from nanochat.sweeping.isoflop import Point, budgets
from nanochat.sweeping.laws import absent, laws
from nanochat.sweeping.laws_text import budget_table, sentences
from nanochat.sweeping.parametric import DELTA, Parametric, parametric
from nanochat.sweeping.power_law import Estimate, power_law, saturating
from nanochat.sweeping.results import Row
from nanochat.sweeping.sweep import Sweep, make_sweep

COMPUTE = (1e18, 3e18, 1e19, 3e19, 1e20)


@attrs.frozen
class Truth:
    """A law from which points are drawn; C = 6·N·D."""

    e: float = 1.69
    a: float = 406.4
    b: float = 410.7
    alpha: float = 0.34
    beta: float = 0.28

    def loss(self, n: float, d: float) -> float:
        return self.e + self.a * n**-self.alpha + self.b * d**-self.beta

    def best(self, flops: float) -> float:
        g = (self.alpha * self.a / (self.beta * self.b)) ** (1 / (self.alpha + self.beta))
        return float(g * (flops / 6) ** (self.beta / (self.alpha + self.beta)))

    def points(self, noise: float = 0.0, seed: int = 0, compute: Sequence[float] = COMPUTE) -> list[Point]:
        """Seven sizes about the best of each budget."""
        generator, found = np.random.default_rng(seed), []
        for flops in compute:
            for n in self.best(flops) * np.geomspace(1 / 3, 3, 7):
                d = flops / 6 / n
                loss = self.loss(n, d) * math.exp(noise * generator.normal())
                found.append(Point(parameters=n, tokens=d, flops=flops, loss=loss))
        return found


def fitted(points: Sequence[Point], resamples: int = 2) -> Parametric:
    found = parametric(points, resamples)
    assert isinstance(found, Parametric)
    return found


def covers(estimate: Estimate, value: float) -> bool:
    assert estimate.low is not None and estimate.high is not None
    return estimate.low <= value <= estimate.high


# Exact curves


@settings(max_examples=10, deadline=None)
@given(st.floats(0.5, 2.5), st.floats(0.2, 0.6), st.floats(0.2, 0.6))
def test_the_law_behind_exact_points_is_found(e: float, alpha: float, beta: float) -> None:
    truth = Truth(e=e, a=3e7**alpha, b=6e8**beta, alpha=alpha, beta=beta)
    fit = fitted(truth.points())
    found = [fit.floor, fit.size_factor, fit.token_factor, fit.size_exponent, fit.token_exponent]
    assert [one.value for one in found] == pytest.approx([e, truth.a, truth.b, alpha, beta], rel=1e-3)
    assert fit.best(1e21, 6.0)[0] == pytest.approx(truth.best(1e21), rel=1e-3)


def test_the_minima_of_exact_points_are_the_best_sizes() -> None:
    """A parabola is not quite the curve, which has a steeper side."""
    truth = Truth()
    for budget in budgets(truth.points()):
        assert budget.parameters == pytest.approx(truth.best(budget.flops), rel=0.05)
        assert budget.tokens == pytest.approx(budget.flops / 6 / budget.parameters, rel=1e-2)
        assert budget.loss == pytest.approx(truth.loss(truth.best(budget.flops), budget.tokens), rel=2e-3)


def test_a_parabola_is_numpys_and_its_error_that_of_many_samples() -> None:
    generator = np.random.default_rng(0)
    sizes = np.repeat(np.geomspace(1e6, 1e8, 6), 2)
    clean = 3 + 0.05 * (np.log(sizes) - math.log(8e6)) ** 2

    def sample() -> list[Point]:
        return [
            Point(parameters=n, tokens=1e18 / 6 / n, flops=1e18, loss=loss)
            for n, loss in zip(sizes, clean + generator.normal(0, 0.01, len(sizes)), strict=True)
        ]

    points = sample()
    (found,) = budgets(points)
    expected = np.polyfit(np.log(sizes), [point.loss for point in points], 2)
    assert found.coefficients == pytest.approx(tuple(expected[::-1]), rel=1e-6)
    minima = [math.log(budgets(sample())[0].parameters or math.nan) for _ in range(400)]
    errors = [budgets(sample())[0].log_error or math.nan for _ in range(50)]
    assert np.mean(errors) == pytest.approx(np.std(minima), rel=0.2)
    assert np.mean(minima) == pytest.approx(math.log(8e6), abs=0.02)


@given(st.floats(0.2, 0.8), st.floats(-20, 5))
def test_a_power_law_is_scipys_line_through_the_logarithms(exponent: float, intercept: float) -> None:
    x = np.array(COMPUTE)
    y = np.exp(intercept + exponent * np.log(x) + np.random.default_rng(0).normal(0, 0.05, len(x)))
    law = power_law(list(x), list(y))
    expected = scipy.stats.linregress(np.log(x), np.log(y))
    assert law is not None and law.exponent.high is not None
    assert (law.exponent.value, law.intercept) == pytest.approx((expected.slope, expected.intercept), rel=1e-6)
    assert law.exponent.high - law.exponent.value == pytest.approx(scipy.stats.t.ppf(0.975, 3) * expected.stderr)


def test_a_curve_that_levels_off_is_scipys_least_squares() -> None:
    x = np.geomspace(1e15, 1e20, 8)
    y = 1.5 + 900 * x**-0.16 + np.random.default_rng(3).normal(0, 0.01, 8)
    law = saturating(list(x), list(y))
    found, covariance = scipy.optimize.curve_fit(
        lambda x, e, a, alpha: e + a * (x / 1e17) ** -alpha, x, y, p0=(1.5, 1.7, 0.16)
    )
    assert law is not None and law.exponent.high is not None
    assert (law.floor.value, law.exponent.value) == pytest.approx((found[0], found[2]), rel=1e-3)
    half = scipy.stats.t.ppf(0.975, 5) * math.sqrt(covariance[2, 2])
    assert law.exponent.high - law.exponent.value == pytest.approx(half, rel=1e-2)
    for at in (1e15, 1e18, 1e21):
        column = (at / 1e17) ** -found[2]
        gradient = np.array([1.0, column, -found[1] * math.log(at / 1e17) * column])
        error = scipy.stats.t.ppf(0.975, 5) * math.sqrt(gradient @ covariance @ gradient)
        there = law.at(at)
        assert there.high is not None and there.low is not None
        assert (there.value, there.high - there.value, there.value - there.low) == pytest.approx(
            (found[0] + found[1] * column, error, error), rel=1e-2
        )
    exact = saturating(list(x[:3]), list(1.5 + 900 * x[:3] ** -0.16))
    assert exact is not None and exact.at(1e20).high is None, "of three points none is left to tell the error by"


@pytest.mark.parametrize("seed", range(3))
def test_scipy_finds_no_lower_huber_loss(seed: int) -> None:
    """From the truth itself, by L-BFGS and by Nelder–Mead, on the objective of the paper."""
    truth, points = Truth(), Truth().points(noise=0.004, seed=seed)
    n, d = np.log([p.parameters for p in points]), np.log([p.tokens for p in points])
    y = np.log([p.loss for p in points])

    def objective(p: np.ndarray) -> float:
        terms = [np.full_like(n, p[0]), p[1] - p[3] * n, p[2] - p[4] * d]
        return float(scipy.special.huber(DELTA, y - scipy.special.logsumexp(terms, axis=0)).sum())

    start = [math.log(truth.e), math.log(truth.a), math.log(truth.b), truth.alpha, truth.beta]
    theirs = scipy.optimize.minimize(objective, start, method="L-BFGS-B").x
    theirs = scipy.optimize.minimize(objective, theirs, method="Nelder-Mead", options={"maxiter": 4000, "fatol": 1e-14})
    fit = fitted(points)
    ours = [math.log(one.value) for one in (fit.floor, fit.size_factor, fit.token_factor)]
    assert objective(np.array([*ours, fit.size_exponent.value, fit.token_exponent.value])) <= theirs.fun * (1 + 1e-4)


# Noisy curves: intervals cover


def share_covered(covered: Callable[[int], bool], samples: int) -> float:
    return float(np.mean([covered(seed) for seed in range(samples)]))


def test_intervals_of_the_laws_through_minima_cover_as_often_as_they_say() -> None:
    """The best sizes rise as C^(beta / (alpha + beta)): 300 samples, 95 % ± 4 standard errors."""
    truth = Truth()

    def covered(seed: int) -> bool:
        best = [b for b in budgets(truth.points(noise=0.002, seed=seed)) if b.parameters]
        law = power_law([b.flops for b in best], [b.parameters or math.nan for b in best])
        assert law is not None
        return covers(law.exponent, truth.beta / (truth.alpha + truth.beta))

    assert abs(share_covered(covered, 300) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 300)


def test_intervals_of_a_curve_that_levels_off_cover_as_often_as_they_say() -> None:
    x = np.geomspace(1e15, 1e20, 8)

    def covered(seed: int) -> bool:
        law = saturating(list(x), list(1.5 + 900 * x**-0.16 + np.random.default_rng(seed).normal(0, 0.005, 8)))
        assert law is not None
        return covers(law.exponent, 0.16)

    assert abs(share_covered(covered, 80) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 80)


@pytest.mark.slow
@pytest.mark.parametrize("truth", [Truth(), Truth(e=0.6, a=30.0, b=900.0, alpha=0.25, beta=0.35)])
def test_intervals_of_the_parametric_fit_cover_as_often_as_they_say(truth: Truth) -> None:
    """60 samples; 95 % ± 4 standard errors of that share, of each exponent."""
    fits = [fitted(truth.points(noise=0.003, seed=seed), 100) for seed in range(60)]
    share = truth.beta / (truth.alpha + truth.beta)
    for its, value in (("size_exponent", truth.alpha), ("token_exponent", truth.beta), ("size_share", share)):
        covered = np.mean([covers(getattr(fit, its), value) for fit in fits])
        assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 60), its


# What is said


def test_all_views_agree_on_what_ten_times_the_compute_takes() -> None:
    truth = Truth()
    found = laws(truth.points(noise=0.001, seed=5))
    assert found.next_flops == 1e21 and not found.unfitted
    for one in found.foretold:
        assert one.parameters.value == pytest.approx(truth.best(1e21), rel=0.15)
        assert one.loss == pytest.approx(truth.loss(truth.best(1e21), 1e21 / 6 / truth.best(1e21)), rel=0.02)


@pytest.mark.parametrize(
    "points, said",
    [
        (Truth().points(compute=[1e18]), ["N_opt and D_opt against C: 1 of the 2", "L(C) = E + A·C^-α: 1 of the 3"]),
        (Truth().points(compute=[1e18, 1e19]), ["two minima leave nothing to tell", "L(C) = E + A·C^-α: 2 of the 3"]),
        (Truth().points()[:2], ["2 of the 3 sizes", "L(N, D): 2 of the 6 runs"]),
        (Truth().points()[:3], ["the minimum lies above all sizes: try larger ones"]),
        (Truth().points()[4:7], ["the minimum lies below all sizes: try smaller ones"]),
        ([attrs.evolve(p, loss=6 - p.loss) for p in Truth().points()], ["opens downward", "does not fall with size"]),
        ([attrs.evolve(Truth().points()[0], loss=math.nan), *Truth().points()[1:]], ["1 of 35 runs left out"]),
        ([attrs.evolve(Truth().points()[0], loss=math.inf), *Truth().points()[1:]], ["1 of 35 runs left out"]),
    ],
)
def test_what_cannot_be_fitted_is_named(points: Sequence[Point], said: Sequence[str]) -> None:
    found = laws(points)
    shown = "\n".join(sentences(found))
    for words in said:
        assert words in shown
    for budget in found.budgets:
        assert (budget.parameters is None) == bool(budget.fault)
    columns, rows = budget_table(found)
    assert all(len(row) == len(columns) for row in rows)


def test_trials_that_are_not_there_are_counted_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    states = ["done", "failed", "waiting", "done", "done"]
    found = [
        Row(settings={}, state=state, runs=[], seconds=1.0, figures={}, errors={}, removed=["r"] * (number == 3))
        for number, state in enumerate(states)
    ]
    monkeypatch.setattr("nanochat.sweeping.laws.rows", lambda _: found)
    sweep: Any = None
    assert absent(sweep) == "3 of 5 trials: 1 failed, 1 waiting, 1 removed"
    told = sentences(laws(Truth().points(), absent=absent(sweep)))
    assert any(line.startswith("not counted: 3 of 5 trials: ") for line in told)
    found[1:4] = []
    assert absent(sweep) == ""


def test_no_finite_loss_at_all_is_an_error() -> None:
    with pytest.raises(InputError, match="no run has a finite"):
        laws([attrs.evolve(point, loss=math.nan) for point in Truth().points()])


def test_the_command_prints_the_budgets_the_laws_and_what_they_foretell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    truth, asked = Truth(), []

    def points(sweep: Sweep, figure: str, *_: object) -> list[Point]:
        asked.append((sweep.path.name, figure))
        return truth.points()

    monkeypatch.setattr("nanochat.sweeping.laws.points_of", points)
    make_sweep("sizes")
    words = ["laws", "sizes", "--figure", "val.bpb", "--flops", "1e21"]
    output = CliRunner().invoke(command, words).output
    titles, *lines = output.splitlines()
    assert asked == [("sizes", "val.bpb")]
    assert titles.split() == ["FLOPs", "runs", "sizes", "best", "N", "D", "there", "D/N", "val.bpb"]
    assert [float(line.split()[0]) for line in lines[:5]] == pytest.approx(COMPUTE, rel=1e-2)
    assert [float(line.split()[-1]) for line in lines[:5]] == pytest.approx(
        [truth.loss(truth.best(flops), flops / 6 / truth.best(flops)) for flops in COMPUTE], rel=2e-3
    )
    (law,) = (line for line in lines if line.startswith("val.bpb = E + A/N^α + B/D^β"))
    for name, value in (("E", 1.69), ("A", 406.4), ("B", 410.7), ("α", 0.34), ("β", 0.28)):
        assert float(re.search(rf" {name} ([\d.]+)", law)[1]) == pytest.approx(value, rel=1e-2)  # type: ignore[index]
    (foretold,) = (line for line in lines if line.startswith("for 1e+21 FLOPs, by L(N, D): N"))
    n, d = truth.best(1e21), 1e21 / 6 / truth.best(1e21)
    assert f"{d / n:.3g} tokens a parameter, val.bpb {truth.loss(n, d):.4f}" in foretold
    plain = json.loads(CliRunner().invoke(command, [*words, "--json"]).output)
    assert len(plain["points"]) == 35 and "points" not in plain["budgets"][0]
    assert plain["parametric"]["size_exponent"]["value"] == pytest.approx(0.34, rel=1e-3)


def test_the_report_of_a_sweep_draws_the_laws_and_says_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    points = Truth().points(noise=0.002)
    monkeypatch.setattr("nanochat.reporting.laws_report.points_of", lambda *_: points)
    table, pictures, *said = laws_blocks(Sweep(tmp_path))
    assert isinstance(table, Table) and len(table.rows) == len(COMPUTE)
    assert isinstance(pictures, Pictures) and all("<svg" in picture.svg for picture in pictures.pictures)
    captions = [picture.caption.partition(" against")[0] for picture in pictures.pictures]
    assert captions == ["bpb.bpb", "Least bpb.bpb", "Best size and tokens"]
    assert [block.text for block in said if isinstance(block, Text)] == sentences(laws(points))


def test_a_sweep_that_was_not_made_for_laws_has_no_section_of_what_was_not_fitted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = Truth().points(noise=0.002)
    first = [budget.points for budget in budgets(whole)]
    gone = [attrs.evolve(point, loss=math.nan) for point in whole[len(first[0]) :]]  # runs that were removed
    one_size = [point for point in whole if point.parameters == whole[0].parameters]
    two_sizes = [point for its in first for point in its[:2]]
    for points in ([*first[0]], [*first[0], *gone], one_size, two_sizes, gone):
        monkeypatch.setattr("nanochat.reporting.laws_report.points_of", lambda *_, points=points: points)
        assert laws_blocks(Sweep(tmp_path)) == []
    monkeypatch.setattr("nanochat.reporting.laws_report.points_of", lambda *_: [*first[0], *first[1]])
    assert laws_blocks(Sweep(tmp_path)) != []
