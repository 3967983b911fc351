"""A budget of time, FLOPs or tokens, and the model and steps that fill it.

In: a budget as a person writes it (30min, 1e18 FLOPs, 2e9 tokens), and a way to tell what a depth and a number of steps
take. Out: depth and steps. Not here: what takes how much, which is an estimate's; how a recipe is written.
"""

import re
from collections.abc import Callable, Sequence
from typing import Literal

import attrs

from nanochat import quantity
from nanochat.errors import wrong_input

Kind = Literal["time", "FLOPs", "tokens"]

DEPTHS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32)
FEWEST_STEPS = 20
"""Fewer are no training."""
TOLERANCE = 0.25
"""How far what is written may be from what was asked."""
MOST = {"time": 100 * 365.25 * 86_400, "FLOPs": 1e28, "tokens": 1e18}
"""Of each kind: beyond it a recipe's 64-bit integers do not count the steps of the smallest model."""
_SECONDS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400, "day": 86_400, "days": 86_400}
_WRITTEN = re.compile(r"(\d+(?:\.\d*)?(?:[eE]\+?\d{1,3})?)\s*([A-Za-z]*)\Z")
_HELP = "write a time (90s, 30min, 8h), or say what a number counts: 1e18flops, 2e9tokens"


@attrs.frozen(kw_only=True)
class Budget:
    """How much of what."""

    kind: Kind
    """time: of the whole recipe. FLOPs, tokens: of its pretraining."""
    amount: float
    """Seconds, FLOPs, tokens."""

    def __str__(self) -> str:
        return shown(self.kind, self.amount)


@attrs.frozen(kw_only=True)
class Taken:
    """What one choice of depth and steps takes of the budget."""

    steps: int
    amount: float | None
    """None where it is not known."""
    fits: bool
    """In the device's memory, where that is known."""


Measure = Callable[[int, int | None], Taken]
"""(depth, steps) → what they take. steps None: as many as are usual for that depth."""


def parse_budget(text: str) -> Budget:
    """InputError E407 where it is no budget."""
    found = _WRITTEN.match(text.strip())
    number, unit = (float(found[1]), found[2].lower()) if found else (0.0, "")
    if not 0 < number < float("inf"):
        raise wrong_input("E407", f"{text!r} is no budget", help=_HELP)
    kind: Kind
    if unit in _SECONDS:
        kind, number = "time", number * _SECONDS[unit]
    elif unit in ("flop", "flops"):
        kind = "FLOPs"
    elif unit in ("token", "tokens"):
        kind = "tokens"
    else:
        problem = f"{text!r} does not say what it counts" if not unit else f"{unit!r} is no unit of a budget"
        raise wrong_input("E407", problem, help=_HELP)
    if number > MOST[kind]:
        raise wrong_input("E407", f"{text!r} is too much: at most {shown(kind, MOST[kind])}", help=_HELP)
    return Budget(kind=kind, amount=number)


def shown(kind: Kind, amount: float) -> str:
    """30 min, 1 EFLOP, 2 G tokens."""
    if kind == "time":
        return quantity.duration(amount)
    if kind == "FLOPs":
        return quantity.count(amount, "FLOP")
    return f"{quantity.count(amount)} tokens"


def fill(budget: Budget, measure: Measure, *, depth: int | None = None) -> tuple[int, int]:
    """The depth and steps whose training takes the budget; InputError E407 where nothing does.

    The depth is the largest whose usual steps the budget allows, or the one that is given; the steps are then those
    that use the budget up: more for the chosen depth, fewer where even the smallest is too much.
    """
    if depth is None:
        depth = _largest(budget, measure)
    usual = measure(depth, None)
    few = measure(depth, FEWEST_STEPS)
    if usual.amount is None or few.amount is None:
        raise wrong_input(
            "E407", "how fast this device is, is not known: no time can be planned", help="give --depth, or --gpu NAME"
        )
    if not usual.fits:
        raise wrong_input(
            "E407", f"a model of depth {depth} does not fit the device's memory", help="give a smaller --depth"
        )
    if few.amount > (1 + TOLERANCE) * budget.amount:
        raise wrong_input(
            "E407",
            f"{budget} is not enough: {FEWEST_STEPS} steps of a model of depth {depth} take about "
            f"{shown(budget.kind, few.amount)}",
            help="give a larger budget" + (", or a smaller --depth" if depth > 1 else ""),
        )
    steps = max(FEWEST_STEPS, _steps_between(budget.amount, few, usual))
    taken = measure(depth, steps).amount
    if taken is None or abs(taken - budget.amount) > TOLERANCE * budget.amount:
        raise wrong_input(
            "E407",
            f"no number of steps of depth {depth} comes near {budget}: {steps:,} take {shown(budget.kind, taken or 0)}",
            help="give another budget",
        )
    return depth, steps


def _largest(budget: Budget, measure: Measure) -> int:
    """By bisection: what a depth takes grows with it."""
    candidates: Sequence[int] = DEPTHS
    while len(candidates) > 1:
        middle = len(candidates) // 2
        taken = measure(candidates[middle], None)
        affordable = taken.fits and (taken.amount is None or taken.amount <= budget.amount)
        candidates = candidates[middle:] if affordable else candidates[:middle]
    return candidates[0]


def _steps_between(amount: float, one: Taken, other: Taken) -> int:
    """Steps take equal amounts each, beside what the recipe takes without them."""
    assert one.amount is not None
    assert other.amount is not None
    if one.steps == other.steps:
        return one.steps
    each = (other.amount - one.amount) / (other.steps - one.steps)
    return round(one.steps + (amount - one.amount) / each)
