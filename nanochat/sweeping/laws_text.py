"""Scaling laws in words: a table of budgets, a sentence for each law, and what was not fitted.

In: laws. Out: text, for the screen and for a report.
"""

from collections.abc import Callable, Sequence

from nanochat.quantity import count
from nanochat.sweeping.laws import Laws
from nanochat.sweeping.power_law import Estimate


def budget_table(found: Laws) -> tuple[list[str], list[list[str]]]:
    """A row a budget: its sizes and the best of them."""
    columns = ["FLOPs", "runs", "sizes", "best N", "D there", "D/N", found.figure]
    rows = []
    for budget in found.budgets:
        sizes = sorted({point.parameters for point in budget.points})
        best = ["", "", "", ""]
        if budget.parameters and budget.tokens and budget.ratio and budget.loss:
            error = f" ± {budget.log_error:.0%}" if budget.log_error is not None else ""
            best = [count(budget.parameters) + error, count(budget.tokens), f"{budget.ratio:.3g}", f"{budget.loss:.4f}"]
        rows.append([f"{budget.flops:.3g}", str(len(budget.points)), f"{count(sizes[0])} to {count(sizes[-1])}", *best])
    return columns, rows


def sentences(found: Laws) -> list[str]:
    """The laws, what they foretell, and what was not fitted."""
    lines = []
    if found.size_law is not None and found.token_law is not None:
        size, tokens = _text(found.size_law.exponent), _text(found.token_law.exponent)
        lines.append(f"best size N ∝ C^{size}, tokens D ∝ C^{tokens} (through the minima)")
    if found.loss_law is not None:
        law = found.loss_law
        lines.append(
            f"least {found.figure} = E + A·C^-α: E {_text(law.floor)}, A {law.factor:.4g}, α {_text(law.exponent)}"
        )
    if found.parametric is not None:
        fit = found.parametric
        lines += [
            f"{found.figure} = E + A/N^α + B/D^β: E {_text(fit.floor)}, A {_text(fit.size_factor)}, "
            f"B {_text(fit.token_factor)}, α {_text(fit.size_exponent)}, β {_text(fit.token_exponent)}; "
            f"off by {fit.error:.2%}",
            f"from it: N ∝ C^{_text(fit.size_share)}, D ∝ C^{_text(fit.token_share)}",
        ]
    for one in found.foretold:
        loss = f", {found.figure} {one.loss:.4f}" if one.loss is not None else ""
        size = f"N {_counted(one.parameters)}, D {_counted(one.tokens)}, {one.ratio:.3g} tokens a parameter"
        lines.append(f"for {found.next_flops:.3g} FLOPs, by {one.by}: {size}{loss}")
    if found.absent:
        lines.append(f"not counted: {found.absent}; a minimum that is missed may lie there")
    return [*lines, *(f"not fitted: {sentence}" for sentence in found.unfitted)]


def _text(estimate: Estimate) -> str:
    return f"{estimate.value:.3g}{_ends([estimate.low, estimate.high], '{:.3g}'.format)}"


def _counted(estimate: Estimate) -> str:
    return f"{count(estimate.value)}{_ends([estimate.low, estimate.high], count)}"


def _ends(ends: Sequence[float | None], written: Callable[[float], str]) -> str:
    return f" [{', '.join(written(end or 0.0) for end in ends)}]" if None not in ends else ""
