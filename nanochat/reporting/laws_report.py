"""Scaling laws in the report of a sweep: the parabola of each budget, and the best sizes and losses against compute.

In: a sweep. Out: blocks; none where it was not made for it: fewer than two budgets have finite losses of three sizes,
or its models do not say their sizes. The numbers are those of `nanochat sweeps laws`.
"""

import math

import numpy as np

from nanochat.errors import NanochatError
from nanochat.hardware import probe_machine
from nanochat.quantity import count
from nanochat.registry import load_registry
from nanochat.reporting.document import Block, Picture, Pictures, Table, Text
from nanochat.reporting.plot import Plot, Series, draw
from nanochat.sweeping.isoflop import LEAST_SIZES, Budget
from nanochat.sweeping.laws import Laws, absent, laws, points_of
from nanochat.sweeping.laws_text import budget_table, sentences
from nanochat.sweeping.power_law import Saturating
from nanochat.sweeping.question import FIGURE
from nanochat.sweeping.sweep import Sweep

_LEAST_BUDGETS = 2
"""That a law against compute goes through."""
_ALONG = 60
"""Points of a drawn curve."""


def laws_blocks(sweep: Sweep) -> list[Block]:
    """A table, the plots and what they say."""
    try:
        found = laws(points_of(sweep, FIGURE, load_registry(), probe_machine()), absent=absent(sweep))
    except NanochatError:
        return []
    whole = [each for each in found.budgets if len({point.parameters for point in each.points}) >= LEAST_SIZES]
    if len(whole) < _LEAST_BUDGETS:
        return []
    titles, rows = budget_table(found)
    pictures = [
        _parabolas(found),
        *([_loss_against_compute(found, found.loss_law)] if found.loss_law is not None else []),
        *([_against_compute(found)] if found.size_law is not None else []),
    ]
    return [
        Table(titles=titles, rows=rows, words=0),
        Pictures(pictures=pictures),
        *(Text(text=sentence) for sentence in sentences(found)),
    ]


def _parabolas(found: Laws) -> Picture:
    series = []
    for colour, budget in enumerate(found.budgets):
        x, y = [p.parameters for p in budget.points], [p.loss for p in budget.points]
        name = f"{budget.flops:.2g} FLOPs"
        series.append(Series(x=x, y=y, label=name, style="points", colour=colour))
        if budget.coefficients is not None:
            along = np.geomspace(min(x), max(x), _ALONG)
            series.append(Series(x=list(along), y=_parabola(budget, along), colour=colour))
    title = f"{found.figure} against size, one parabola a budget"
    plot = Plot(title=title, series=series, x_label="N (matmul parameters)", y_label=found.figure, x_scale="log")
    return Picture(svg=draw(plot), caption=title)


def _parabola(budget: Budget, sizes: np.ndarray) -> list[float]:
    assert budget.coefficients is not None
    a, b, c = budget.coefficients
    x = np.log(sizes)
    return [float(value) for value in a + b * x + c * x**2]


def _loss_against_compute(found: Laws, law: Saturating) -> Picture:
    """Each run, the least loss of each budget, and the law through these."""
    best = [budget for budget in found.budgets if budget.parameters]
    along = [float(x) for x in np.geomspace(best[0].flops, found.next_flops, _ALONG)]
    at = [law.at(x) for x in along]
    band = ([e.low for e in at if e.low is not None], [e.high for e in at if e.high is not None])
    x, y = [p.flops for p in found.points], [p.loss for p in found.points]
    series = [
        Series(x=x, y=y, label="runs", style="points", faint=True, colour=1),
        Series(
            x=[b.flops for b in best], y=[b.loss or math.nan for b in best], label="least", style="points", colour=0
        ),
        Series(
            x=along, y=[e.value for e in at], label="E + A·C^-α", band=band if band[0] else None, dashed=True, colour=0
        ),
    ]
    title = f"Least {found.figure} against compute, as far as {count(found.next_flops)} FLOPs"
    plot = Plot(title=title, series=series, x_label="FLOPs", y_label=found.figure, x_scale="log")
    return Picture(svg=draw(plot), caption=title)


def _against_compute(found: Laws) -> Picture:
    best = [budget for budget in found.budgets if budget.parameters]
    errors = [budget.log_error or 0.0 for budget in best]
    sizes = [budget.parameters or math.nan for budget in best]
    bars = [(n * (1 - math.exp(-e)), n * (math.exp(e) - 1)) for n, e in zip(sizes, errors, strict=True)]
    series = [
        Series(x=[b.flops for b in best], y=sizes, label="best N", style="points", errors=bars, colour=0),
        Series(x=[b.flops for b in best], y=[b.tokens or math.nan for b in best], label="D", style="points", colour=1),
    ]
    along = [float(x) for x in np.geomspace(best[0].flops, found.next_flops, _ALONG)]
    for colour, law in enumerate((found.size_law, found.token_law)):
        if law is not None:
            at = [law.at(x) for x in along]
            band = ([e.low or e.value for e in at], [e.high or e.value for e in at])
            series.append(Series(x=along, y=[e.value for e in at], band=band, dashed=True, colour=colour))
    title = f"Best size and tokens against compute, as far as {count(found.next_flops)} FLOPs"
    plot = Plot(title=title, series=series, x_label="FLOPs", y_label="N, D", x_scale="log", y_scale="log")
    return Picture(svg=draw(plot), caption=title)
