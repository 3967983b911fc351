"""The scaling laws of a sweep's runs: three views of the same points, and what they foretell for more compute.

In: a sweep whose trials trained models of several sizes on several budgets, or points. Out: plain data, with what
could not be fitted and why. Hoffmann et al. 2022 (arXiv 2203.15556) name the views; their first, the envelope of many
learning curves, is not here: a schedule whose rate falls to the end makes curves that end early bad points.
"""

import math
from collections.abc import Sequence

import attrs

from nanochat.config import Component
from nanochat.errors import wrong_input
from nanochat.estimating.estimate import pretraining_stage
from nanochat.hardware import Machine
from nanochat.model.sizes import matrix_parameters
from nanochat.quantity import counted
from nanochat.recipe.load import load_recipe
from nanochat.registry import Registry
from nanochat.sweeping.isoflop import Budget, Point, budgets
from nanochat.sweeping.parametric import Parametric, parametric
from nanochat.sweeping.power_law import Estimate, PowerLaw, Saturating, power_law, saturating
from nanochat.sweeping.question import FIGURE, FURTHER
from nanochat.sweeping.results import Row, rows
from nanochat.sweeping.sweep import Sweep, in_words

_TOLD = 10.0
"""How many times apart the ends of an interval are of a factor that was not told by the points."""


@attrs.frozen(kw_only=True)
class Foretold:
    """What one view says of a budget."""

    by: str
    parameters: Estimate
    tokens: Estimate
    loss: float | None

    @property
    def ratio(self) -> float:
        """Tokens a parameter."""
        return self.tokens.value / self.parameters.value


@attrs.frozen(kw_only=True)
class Laws:
    """What was fitted; None and a sentence in `unfitted` for what was not."""

    figure: str
    points: Sequence[Point]
    budgets: Sequence[Budget]
    size_law: PowerLaw | None
    """N_opt ∝ C^a, through the budgets' minima."""
    token_law: PowerLaw | None
    """D_opt ∝ C^b."""
    loss_law: Saturating | None
    """L(C) = E + A·C^-alpha, through the minima's losses."""
    parametric: Parametric | None
    next_flops: float
    foretold: Sequence[Foretold]
    unfitted: Sequence[str]
    absent: str
    """Trials of the sweep that are not among the points, in words; "" where all are."""


def laws(points: Sequence[Point], *, figure: str = FIGURE, next_flops: float | None = None, absent: str = "") -> Laws:
    """All views of the points. InputError E407 where there is no finite loss at all."""
    finite = [point for point in points if math.isfinite(point.loss) and point.loss > 0]
    unfitted = [f"{len(points) - len(finite)} of {len(points)} runs left out: they have no finite {figure} above 0"] * (
        len(finite) < len(points)
    )
    if not finite:
        raise wrong_input("E407", f"no run has a finite {figure}", help="`nanochat sweeps show` lists what there is")
    found = budgets(finite)
    unfitted += [f"budget {budget.flops:.3g}: {budget.fault}" for budget in found if budget.fault]
    best = [budget for budget in found if budget.parameters]
    compute, losses = [budget.flops for budget in best], [budget.loss or math.nan for budget in best]
    size_law = power_law(compute, [budget.parameters or math.nan for budget in best])
    token_law = power_law(compute, [budget.tokens or math.nan for budget in best])
    loss_law = saturating(compute, losses)
    if size_law is None:
        unfitted.append(f"N_opt and D_opt against C: {len(best)} of the 2 minima that a line takes")
    elif len(best) < 3:
        unfitted.append("intervals of N_opt and D_opt: two minima leave nothing to tell their error by")
    if loss_law is None:
        few = len(best) < 3
        said = f"{len(best)} of the 3 minima that it takes" if few else "the least loss does not fall with compute"
        unfitted.append(f"L(C) = E + A·C^-α: {said}")
    fit = parametric(finite)
    if isinstance(fit, str):
        unfitted.append(f"L(N, D): {fit}")
    elif (fit.floor.high or 0.0) > _TOLD * (fit.floor.low or 0.0):
        unfitted.append("E of L(N, D): these runs do not tell it; what follows from it for more compute is a guess")
    asked = next_flops or FURTHER * max(point.flops for point in finite)
    return Laws(
        figure=figure,
        points=finite,
        budgets=found,
        size_law=size_law,
        token_law=token_law,
        loss_law=loss_law,
        parametric=None if isinstance(fit, str) else fit,
        next_flops=asked,
        foretold=list(_foretold(asked, finite, size_law, token_law, loss_law, fit)),
        unfitted=unfitted,
        absent=absent,
    )


def _foretold(
    flops: float,
    points: Sequence[Point],
    size_law: PowerLaw | None,
    token_law: PowerLaw | None,
    loss_law: Saturating | None,
    fit: Parametric | str,
) -> list[Foretold]:
    found = []
    if size_law is not None and token_law is not None:
        loss = loss_law.at(flops).value if loss_law is not None else None
        found.append(Foretold(by="minima", parameters=size_law.at(flops), tokens=token_law.at(flops), loss=loss))
    if isinstance(fit, Parametric):
        each = math.exp(sum(math.log(p.flops / (p.parameters * p.tokens)) for p in points) / len(points))
        size, tokens = fit.best(flops, each)
        found.append(
            Foretold(
                by="L(N, D)",
                parameters=Estimate(value=size),
                tokens=Estimate(value=tokens),
                loss=fit.loss(size, tokens),
            )
        )
    return found


def points_of(sweep: Sweep, figure: str, registry: Registry, machine: Machine) -> list[Point]:
    """A point for each trial that is done; its loss is NaN where the trial has no such figure.

    InputError E407 where none has the figure, or a model does not say its size.
    """
    trials = zip(sweep.trials(), rows(sweep), strict=True)
    found = [(trial, row) for trial, row in trials if row.state == "done" and not row.removed]
    points = []
    for trial, row in found:
        recipe = load_recipe(trial.recipe, registry=registry, machine=machine, record=True)
        stage = pretraining_stage(recipe)
        if stage is not None:
            points.append(_point(recipe.stages[stage].config, row.figures.get(figure, math.nan)))
    if not any(figure in row.figures for _, row in found) or not points:
        raise wrong_input("E407", f"no trial of `{sweep.path.name}` that is done has {figure}", help=_known(found))
    return points


def absent(sweep: Sweep) -> str:
    """What of a sweep is not done, as `laws` takes it: its minima may lie there."""
    found = rows(sweep)
    undone, removed = [row.state for row in found if row.state != "done"], sum(bool(row.removed) for row in found)
    why = [*([in_words(undone)] if undone else []), *([f"{removed} removed"] if removed else [])]
    return f"{len(undone) + removed} of {counted(len(found), 'trial')}: {', '.join(why)}" if why else ""


def _known(found: Sequence[tuple[object, Row]]) -> str:
    names = dict.fromkeys(name for _, row in found for name in row.figures)
    return f"figures: {', '.join(names)}" if names else "`nanochat sweeps show` says how its trials stand"


def _point(config: object, loss: float) -> Point:
    model: Component = config.model  # type: ignore[attr-defined]
    tokens = config.steps * config.total_batch_size  # type: ignore[attr-defined]
    try:
        size, flops = matrix_parameters(model.config.layout()), model.config.flops_per_token()
    except AttributeError:
        message = f"a {model.use} does not say its layout and its FLOPs a token"
        raise wrong_input("E407", message, help="scaling laws want models that do, such as gpt") from None
    return Point(parameters=size, tokens=tokens, flops=tokens * flops, loss=loss)
