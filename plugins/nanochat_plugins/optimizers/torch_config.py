"""Configurations of `torch:NAME`, the optimizers of torch.optim: one class each, called as torch's is.

An option is a keyword of torch's constructor, with its default. Left out are those that do not change what is
optimised (`foreach`, `fused`, `capturable`, `differentiable`) and `maximize`, which would climb the loss. No torch is
imported: the names and defaults stand here, and a test holds them to torch's own.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, ClassVar

from nanochat.config import Problem, config, option


def _lr(default: float) -> Any:
    return option(default, minimum=0.0, maximum=1e3, doc="learning rate at its peak, before lr_factor")


def _betas() -> Any:
    doc = "decay a step of the mean gradient, and of the mean squared gradient; each below 1"
    return option((0.9, 0.999), minimum=0.0, maximum=1.0, doc=doc)


def _eps(default: float) -> Any:
    return option(default, minimum=0.0, maximum=1.0, doc="added to what is divided by")


def _decay(default: float = 0.0) -> Any:
    return option(default, minimum=0.0, maximum=1e6, doc="weight decay; no schedule scales it")


def _decoupled() -> Any:
    return option(False, doc="take the decay off the weights, not into the gradients")


def _amsgrad() -> Any:
    return option(False, doc="divide by the largest mean squared gradient so far")


class TorchOptimizer:
    """What all have in common: what they keep, and the ranges that torch checks."""

    __slots__ = ()
    elementwise: ClassVar[bool] = True
    """Each number is updated by its own gradient alone, so that processes can share out the rows of a parameter."""
    scalars: ClassVar[int] = 1
    """Single float32 numbers that are kept for a parameter."""

    def moments(self) -> int:
        """float32 numbers that are kept for each of a parameter's."""
        return 2

    def state_bytes(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """The moments of every number, and the counts of every parameter."""
        return sum(4 * self.moments() * prod(shape) + 4 * self.scalars for shape in shapes)

    def problems(self) -> list[Problem]:
        """torch refuses a beta of 1: the mean would never take up a gradient."""
        return [("betas", "each of `betas` is below 1")] if max(getattr(self, "betas", (0.0,))) >= 1.0 else []


@config
class ASGD(TorchOptimizer):
    """Averaged stochastic gradient descent, as torch has it. The average is kept beside the weights and not used."""

    lr: float = _lr(0.01)
    lambd: float = option(0.0001, minimum=0.0, maximum=1.0, doc="decay term")
    alpha: float = option(0.75, minimum=0.0, maximum=10.0, doc="power by which the rate falls")
    t0: float = option(1e6, minimum=0.0, maximum=1e15, doc="step from which weights are averaged")
    weight_decay: float = _decay()
    scalars: ClassVar[int] = 3

    def moments(self) -> int:
        return 1


@config
class Adadelta(TorchOptimizer):
    """Adadelta (arXiv 1212.5701), as torch has it. Take it to compare with; its steps find their own size, so that `lr`
    is a factor near 1.
    """

    lr: float = _lr(1.0)
    rho: float = option(0.9, minimum=0.0, maximum=1.0, doc="decay a step of the mean squares")
    eps: float = _eps(1e-6)
    weight_decay: float = _decay()


@config
class Adafactor(TorchOptimizer):
    """Adafactor (arXiv 1804.04235), as torch has it: the second moment of a matrix as rows times columns."""

    lr: float = _lr(0.01)
    beta2_decay: float = option(-0.8, minimum=-10.0, maximum=0.0, doc="power of the step in the second moment's decay")
    eps: tuple[float, float] | None = option(
        None,
        minimum=0.0,
        maximum=1.0,
        doc="floors of the squared gradient and of the weights' size; without it, torch's",
    )
    d: float = option(1.0, minimum=1.0, maximum=1e6, doc="the update is clipped to this root mean square")
    weight_decay: float = _decay()
    elementwise: ClassVar[bool] = False

    def state_bytes(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """One float32 a row and a column of a matrix, else one a number; and a step count."""
        kept = (shape[-2] + shape[-1] if len(shape) > 1 else prod(shape) for shape in shapes)
        return sum(4 * numbers + 4 for numbers in kept)


@config
class Adagrad(TorchOptimizer):
    """Adagrad, as torch has it: steps shrink with the sum of all squared gradients. Take it for rare features, not for
    long runs.
    """

    lr: float = _lr(0.01)
    lr_decay: float = option(0.0, minimum=0.0, maximum=1e3, doc="the rate is divided by 1 + this × steps")
    weight_decay: float = _decay()
    initial_accumulator_value: float = option(0.0, minimum=0.0, maximum=1e6, doc="start of the sum of squares")
    eps: float = _eps(1e-10)

    def moments(self) -> int:
        return 1


@config
class Adam(TorchOptimizer):
    """Adam (arXiv 1412.6980), as torch has it: weight decay goes into the gradients. Take it to repeat an older run;
    `adamw` else.
    """

    lr: float = _lr(0.001)
    betas: tuple[float, float] = _betas()
    eps: float = _eps(1e-8)
    weight_decay: float = _decay()
    amsgrad: bool = _amsgrad()
    decoupled_weight_decay: bool = _decoupled()

    def moments(self) -> int:
        return 2 + self.amsgrad


@config
class AdamW(TorchOptimizer):
    """AdamW (arXiv 1711.05101) with torch's names and defaults; `adamw` is the same one with this project's."""

    lr: float = _lr(0.001)
    betas: tuple[float, float] = _betas()
    eps: float = _eps(1e-8)
    weight_decay: float = _decay(0.01)
    amsgrad: bool = _amsgrad()

    def moments(self) -> int:
        return 2 + self.amsgrad


@config
class Adamax(TorchOptimizer):
    """Adamax (arXiv 1412.6980, section 7.1), as torch has it: Adam with the largest gradient in place of the mean
    square. Take it to compare with.
    """

    lr: float = _lr(0.002)
    betas: tuple[float, float] = _betas()
    eps: float = _eps(1e-8)
    weight_decay: float = _decay()


@config
class LBFGS(TorchOptimizer):
    """Not to be had: it asks for the loss several times a step, and the loop computes it once. A recipe that
    names it is refused.
    """

    lr: float = _lr(1.0)
    max_iter: int = option(20, minimum=1, maximum=10**6, doc="iterations a step")
    max_eval: int | None = option(None, minimum=1, maximum=10**6, doc="evaluations a step")
    tolerance_grad: float = option(1e-7, minimum=0.0, maximum=1.0, doc="first-order tolerance")
    tolerance_change: float = option(1e-9, minimum=0.0, maximum=1.0, doc="tolerance of a change")
    history_size: int = option(100, minimum=1, maximum=10**6, doc="updates that are kept")
    line_search_fn: str | None = option(None, choices=("strong_wolfe",), doc="line search")

    def problems(self) -> list[Problem]:
        return ["torch:LBFGS asks for the loss several times a step, and the loop computes it once: take another one"]


@config
class Muon(TorchOptimizer):
    """Muon as torch has it, for matrices alone; `muon` is this project's, with the refinements since."""

    lr: float = _lr(0.001)
    weight_decay: float = _decay(0.1)
    momentum: float = option(0.95, minimum=0.0, maximum=1.0, doc="decay a step of the mean gradient")
    nesterov: bool = option(True, doc="step along the gradient mixed with its momentum")
    ns_coefficients: tuple[float, float, float] = option(
        (3.4445, -4.775, 2.0315), minimum=-1e3, maximum=1e3, doc="of the Newton–Schulz iteration"
    )
    eps: float = _eps(1e-7)
    ns_steps: int = option(5, minimum=1, maximum=99, doc="iterations")
    adjust_lr_fn: str | None = option(
        None, choices=("original", "match_rms_adamw"), doc="how the rate follows a matrix's shape; without it, original"
    )
    elementwise: ClassVar[bool] = False
    scalars: ClassVar[int] = 0

    def moments(self) -> int:
        return 1

    def refuses(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """What is no matrix cannot be orthogonalised."""
        found = next((f"`{name}` of shape {tuple(shape)}" for name, shape in shapes.items() if len(shape) != 2), "")
        return f"torch:Muon was given {found}, which is no matrix: match it by a group that uses adamw" if found else ""


@config
class NAdam(TorchOptimizer):
    """Adam with Nesterov's momentum, as torch has it: the momentum grows over the first steps. Take it to compare with
    `adamw`.
    """

    lr: float = _lr(0.002)
    betas: tuple[float, float] = _betas()
    eps: float = _eps(1e-8)
    weight_decay: float = _decay()
    momentum_decay: float = option(0.004, minimum=0.0, maximum=1e3, doc="how the momentum grows with the steps")
    decoupled_weight_decay: bool = _decoupled()
    scalars: ClassVar[int] = 2


@config
class RAdam(TorchOptimizer):
    """Adam with its variance rectified in the first steps (arXiv 1908.03265), as torch has it; take it for a run
    without a warmup.
    """

    lr: float = _lr(0.001)
    betas: tuple[float, float] = _betas()
    eps: float = _eps(1e-8)
    weight_decay: float = _decay()
    decoupled_weight_decay: bool = _decoupled()


@config
class RMSprop(TorchOptimizer):
    """RMSprop, as torch has it: the gradient over the root of its mean square. Take it to compare with; `adamw` is this
    with momentum and corrected means.
    """

    lr: float = _lr(0.01)
    alpha: float = option(0.99, minimum=0.0, maximum=1.0, doc="decay a step of the mean squared gradient")
    eps: float = _eps(1e-8)
    weight_decay: float = _decay()
    momentum: float = option(0.0, minimum=0.0, maximum=1.0, doc="of the steps; no schedule sets it")
    centered: bool = option(False, doc="divide by the variance, not the mean square")

    def moments(self) -> int:
        return 1 + (self.momentum > 0) + self.centered


@config
class Rprop(TorchOptimizer):
    """Resilient propagation, as torch has it. Its steps find their own sizes, which no schedule reaches; it looks at
    signs alone and is made for gradients of the whole data.
    """

    lr: float = _lr(0.01)
    etas: tuple[float, float] = option(
        (0.5, 1.2), minimum=0.0, maximum=1e3, doc="factors of a step when signs differ, agree"
    )
    step_sizes: tuple[float, float] = option((1e-6, 50.0), minimum=0.0, maximum=1e6, doc="smallest and largest step")

    def problems(self) -> list[Problem]:
        return [] if 0.0 < self.etas[0] < 1.0 < self.etas[1] else [("etas", "0 < etas[0] < 1 < etas[1]")]


@config
class SGD(TorchOptimizer):
    """Gradient descent, with momentum or without, as torch has it. Take it as the plainest thing to compare with: it
    keeps the least, and needs the most steps.
    """

    lr: float = _lr(0.001)
    momentum: float = option(
        0.0, minimum=0.0, maximum=1.0, doc="decay a step of the sum of gradients; no schedule sets it"
    )
    dampening: float = option(0.0, minimum=0.0, maximum=1.0, doc="share of a gradient that the momentum does not take")
    weight_decay: float = _decay()
    nesterov: bool = option(False, doc="step along the gradient and its momentum")
    scalars: ClassVar[int] = 0

    def moments(self) -> int:
        return int(self.momentum > 0)

    def problems(self) -> list[Problem]:
        sound = not self.nesterov or (self.momentum > 0 and not self.dampening)
        return [] if sound else [("nesterov", "nesterov wants a momentum above 0 and dampening = 0.0")]


@config
class SparseAdam(TorchOptimizer):
    """Not to be had: it updates by sparse gradients, and the models here have none. A recipe that names it is
    refused.
    """

    lr: float = _lr(0.001)
    betas: tuple[float, float] = _betas()
    eps: float = _eps(1e-8)

    def problems(self) -> list[Problem]:
        return ["torch:SparseAdam updates by sparse gradients, and models here have none: take torch:Adam"]
