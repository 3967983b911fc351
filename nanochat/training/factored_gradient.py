"""Gradients of matrices that are kept in two factors: G ≈ left · rightᵀ, `right` an orthonormal basis that is tracked.

In: what a transform computes instead of G (out, in): GV, where V (in, k) is the basis, and now and then GᵀQ, from which
the basis is refined. Out: what an optimizer finds (`factors`), or a dense gradient where it takes none. Since VᵀV = 1,
‖GVVᵀ‖ = ‖GV‖: norms, clipping and the look for what is not finite act on the left factor alone.

A parameter with a tracked gradient has `Tracked` at it; its own `.grad` stays None. What autograd sums over
micro-batches, and the exchange over processes, is the gradient of a leaf beside it, the carrier.
Not here: how a layer computes it (nanochat_plugins/transforms/molegrad.py).
"""

from collections.abc import Iterable, Mapping

import attrs
import torch
from torch import Tensor, nn

from nanochat.training.optimizer import Optimizer

TRACKED, FACTORS = "_nanochat_tracked", "_nanochat_factors"
"""Attributes of a parameter."""
PERIOD = 2
"""Steps that a refinement takes: one for GV, the next for GᵀQ."""


@attrs.frozen(eq=False)
class Factors:
    """The gradient left · rightᵀ of a parameter (rows, in), as an optimizer finds it."""

    left: Tensor
    """(rows, k)."""
    right: Tensor
    """(in, k), of orthonormal columns."""

    def dense(self, start: int = 0, stop: int | None = None) -> Tensor:
        """The rows [start, stop) of the gradient."""
        return self.left[start:stop] @ self.right.T


@attrs.frozen(kw_only=True)
class Tracking:
    """How a basis is tracked."""

    rank: int
    """k: columns."""
    refresh: int = PERIOD
    """Steps from one refinement to the next, PERIOD or more."""
    warm_start: int = 0
    """Of the first steps, how many refine as often as can be."""
    of_input: bool = False
    """The basis is that of what goes into the layer, whose xᵀxV comes in place of GᵀQ."""


class Tracked:
    """The basis V of one parameter's gradient, refined by subspace iteration, and the sums of a step.

    After one step Q ← orth(GV), after the next one V ← orth(GᵀQ): the angle to the top right singular space of a G that
    stays falls by (σₖ₊₁/σₖ)² a refinement (Golub & Van Loan, Matrix Computations, 8.2.4). The gradients are those of
    two steps, so that it follows G as this changes. All processes hold the same basis: it comes from summed numbers.
    """

    def __init__(self, parameter: nn.Parameter, tracking: Tracking, generator: torch.Generator) -> None:
        """generator: of the first, random basis, on the CPU."""
        self.tracking = tracking
        self.rows, columns = parameter.shape

        def drawn(length: int) -> Tensor:
            noise = torch.randn(length, tracking.rank, generator=generator, dtype=torch.float64)
            return orthonormal(noise).to(parameter.device, parameter.dtype)

        self.basis, self.probe = drawn(columns), drawn(self.rows)  # V (in, k), Q (out, k)
        nothing = torch.zeros(1, 1, dtype=parameter.dtype, device=parameter.device)
        self.carrier = nothing.expand(self.rows + columns, tracking.rank).requires_grad_()
        """The leaf (out + in, k) whose gradient is GV above GᵀQ; it holds no number of its own."""
        self.steps = 0
        self.since = PERIOD - 1
        """Steps since the last refinement; the first probe is random, so that the first step refines."""
        self.refines = True
        """Whether this step's GᵀQ (or xᵀxV) is wanted."""
        setattr(parameter, TRACKED, self)

    @property
    def period(self) -> int:
        """Steps from the last refinement to the next."""
        return PERIOD if self.steps < self.tracking.warm_start else self.tracking.refresh

    def factors(self, start: int, stop: int) -> Factors | None:
        """The summed gradient of rows of the parameter; None before there is one."""
        sums = self.carrier.grad
        return None if sums is None else Factors(sums[: self.rows][start:stop], self.basis)

    @torch.no_grad()
    def advance(self) -> None:
        """After an update: refine what it is time for."""
        sums = self.carrier.grad
        if sums is None:
            return
        if self.refines:
            self.basis.copy_(orthonormal_or(sums[self.rows :], self.basis))
        elif self.since == self.period - PERIOD and not self.tracking.of_input:
            self.probe.copy_(orthonormal_or(sums[: self.rows], self.probe))
        self.steps, self.since = self.steps + 1, 0 if self.refines else self.since + 1
        self.refines = self.since >= self.period - 1

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs."""
        place = torch.tensor([self.steps, self.since], dtype=torch.int64)
        return {"basis": self.basis, "probe": self.probe, "place": place}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave. KeyError, ValueError where it is of another shape."""
        for own, name in ((self.basis, "basis"), (self.probe, "probe")):
            if state[name].shape != own.shape:
                raise ValueError(f"the {name} is {tuple(state[name].shape)} there and {tuple(own.shape)} here")
            own.copy_(state[name])
        self.steps, self.since = state["place"].tolist()
        self.refines = self.steps == 0 or self.since >= self.period - 1


def orthonormal(x: Tensor) -> Tensor:
    """An orthonormal basis (n, k) of a space that has the columns of x (n, k); k ≤ n."""
    q: Tensor = torch.linalg.qr(x).Q
    return q


def orthonormal_or(x: Tensor, otherwise: Tensor) -> Tensor:
    """orthonormal(x), unless x is nothing or not finite: a layer whose output counts for nothing has no gradient."""
    length = torch.linalg.vector_norm(x)
    usable = torch.isfinite(length) & (length > 0)
    return torch.where(usable, orthonormal(torch.where(usable, x, otherwise)), otherwise)


def tracked(parameter: Tensor) -> Tracked | None:
    """What tracks the parameter's gradient, if anything does."""
    return getattr(parameter, TRACKED, None)


def factors(parameter: Tensor) -> Factors | None:
    """The gradient of a parameter that came in factors, in place of `.grad`."""
    return getattr(parameter, FACTORS, None)


def set_factors(parameter: Tensor, found: Factors | None) -> None:
    """What the parameter's optimizer will find."""
    setattr(parameter, FACTORS, found)


def add_gradient_(target: Tensor, parameter: Tensor, scale: float) -> None:
    """target (out, in) += scale · the parameter's gradient, in whichever form it is; nothing where there is none."""
    found = factors(parameter)
    if found is not None:
        target.addmm_(found.left, found.right.T, alpha=scale)
    elif parameter.grad is not None:
        target.add_(parameter.grad, alpha=scale)


@torch.no_grad()
def make_dense(optimizer: Optimizer) -> None:
    """Multiply out what the optimizer would have to find in factors, unless it takes factors."""
    if getattr(optimizer, "takes_factors", False):
        return
    for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
        found = factors(parameter)
        if found is not None:
            parameter.grad = found.dense()
            set_factors(parameter, None)


def forget_sums(parameters: Iterable[Tensor]) -> None:
    """Drop what was summed beside the parameters."""
    for parameter in parameters:
        its = tracked(parameter)
        if its is not None:
            its.carrier.grad = None
        if factors(parameter) is not None:
            set_factors(parameter, None)


def states(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tracked bases of a model: "parameter/basis", "parameter/probe", "parameter/place"."""
    found = {name: its for name, parameter in parameters.items() if (its := tracked(parameter)) is not None}
    return {f"{name}/{slot}": tensor for name, its in found.items() for slot, tensor in its.state().items()}


def load_states(parameters: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Undo `states`. KeyError, ValueError where what was saved does not fit."""
    for name, parameter in parameters.items():
        its = tracked(parameter)
        if its is not None:
            its.load_state({slot: saved[f"{name}/{slot}"] for slot in its.state()})
