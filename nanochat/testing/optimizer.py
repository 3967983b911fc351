"""`check_optimizer`: does an optimizer keep the contract of `nanochat.training.optimizer`?

In: an optimizer's builder and config. Out: an AssertionError that lists what it breaks. It updates three small matrices
by the gradients of a quadratic. Not here: whether it is any good, and groups that are no matrices.
"""

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nanochat.testing.faults import TRACEBACK, Faults, is_number, short
from nanochat.testing.tiny import tiny_runtime
from nanochat.training.optimizer import Optimizer
from nanochat.training.optimizer_state import Part, Updater, joined_states, restore, state_of

SHAPES = {"a.weight": (12, 8), "b.weight": (8, 12), "c.weight": (12, 8)}
STEPS = 40
METHODS = ("step", "zero_grad", "state_dict", "load_state_dict")


class Problem:
    """½‖w − target‖² over small matrices: parameters to update, and an optimizer over them."""

    def __init__(self, build: Callable[..., Any], config: Any) -> None:
        draws = torch.Generator().manual_seed(0)
        self.parameters = {name: nn.Parameter(torch.randn(shape, generator=draws)) for name, shape in SHAPES.items()}
        self.targets = {name: torch.randn(shape, generator=draws) for name, shape in SHAPES.items()}
        arguments = (self.parameters, tiny_runtime())
        self.optimizer: Optimizer = build(*arguments) if config is None else build(config, *arguments)

    def step(self, count: int = 1) -> None:
        """Update, as the loop does: gradients, step, gradients away."""
        for _ in range(count):
            for name, parameter in self.parameters.items():
                parameter.grad = parameter.detach() - self.targets[name]
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

    def loss(self) -> float:
        """How far there is to go."""
        return sum(float((p.detach() - self.targets[name]).square().sum()) / 2 for name, p in self.parameters.items())

    def updater(self) -> Updater:
        """The optimizer as a checkpoint sees it."""
        parts = {name: Part(parameter=p, start=0, stop=p.shape[0]) for name, p in self.parameters.items()}
        return Updater(group="group", optimizer=self.optimizer, parts=parts)

    def weights(self) -> dict[str, Tensor]:
        """A copy of the parameters."""
        return {name: parameter.detach().clone() for name, parameter in self.parameters.items()}


def check_optimizer(build: Callable[..., Any], config: Any = None) -> None:
    """AssertionError where what `build(config, parameters, runtime)` makes breaks its contract.

    Without a config it is called as `build(parameters, runtime)`.
    """
    faults = Faults(f"the optimizer of `{getattr(build, '__qualname__', build)}`", "nanochat.training.optimizer")

    def problem() -> Problem:
        return Problem(build, config)

    with faults.during("the builder", contract="build(config, parameters, runtime) makes it", mend=TRACEBACK):
        _check_shape(problem(), faults)
    if not faults:
        _check_steps(problem, faults)
        _check_rate(problem(), faults)
        _check_gaps(problem(), faults)
        _check_resume(problem, faults)
    faults.raise_any()


def _check_shape(problem: Problem, faults: Faults) -> None:
    optimizer = problem.optimizer
    missing = [name for name in METHODS if not callable(getattr(optimizer, name, None))]
    faults.expect(
        not missing,
        f"{type(optimizer).__name__} has no {', '.join(missing)}",
        contract=f"it has {', '.join(METHODS)}",
        mend="derive from torch.optim.Optimizer",
    )
    groups = getattr(optimizer, "param_groups", None)
    sound = isinstance(groups, list) and all(isinstance(g, dict) and {"params", "lr"} <= g.keys() for g in groups)
    contract = 'param_groups is a list of dictionaries with "params" and "lr", each parameter in exactly one'
    mend = 'super().__init__(parameters.values(), {"lr": config.lr})'
    if faults.expect(sound, f"param_groups is {short(groups)}", contract=contract, mend=mend):
        held = sorted(id(parameter) for group in optimizer.param_groups for parameter in group["params"])
        given = sorted(id(parameter) for parameter in problem.parameters.values())
        counts = f"param_groups hold {len(held)} parameters, of {len(given)} that were given"
        faults.expect(held == given, counts, contract=contract, mend=mend)
        rates = [group["lr"] for group in optimizer.param_groups]
        faults.expect(all(map(is_number, rates)), f'"lr" is {short(rates)}', contract=contract, mend=mend)


def _check_steps(problem: Callable[[], Problem], faults: Faults) -> None:
    contract, mend = "step() updates every parameter in place from its gradient", TRACEBACK
    with faults.during("step()", contract=contract, mend=mend):
        one, twin = problem(), problem()
        before, loss = one.weights(), one.loss()
        one.step()
        still = [name for name, weight in one.weights().items() if torch.equal(weight, before[name])]
        loop = "go over every group of param_groups and all of its params; return early for none"
        faults.expect(not still, f"step() left {', '.join(still)} as it was", contract=contract, mend=loop)
        kept = [name for name, p in one.parameters.items() if p.grad is not None and bool(p.grad.any())]
        faults.expect(
            not kept,
            f"after zero_grad() {', '.join(kept)} still has its gradient",
            contract="zero_grad() forgets the gradients",
            mend="set .grad to None, or derive from torch.optim.Optimizer",
        )
        one.step(STEPS - 1)
        faults.expect(
            one.loss() < loss,  # not so for nan
            f"{STEPS} steps took a quadratic's loss from {loss:.4g} to {one.loss():.4g}",
            contract="steps go downhill",
            mend="check the update's sign, and that the learning rate is not too large for weights of size 1",
        )
        twin.step(STEPS)
        faults.expect(
            _equal(one.weights(), twin.weights()),
            "two runs from one start ended in other weights",
            contract="the same gradients give the same weights, bit for bit",
            mend="draw random numbers from a generator seeded by runtime.seed, and keep no state in the module",
        )


def _check_rate(problem: Problem, faults: Faults) -> None:
    contract = 'the learning rate is read from param_groups["lr"] in each step: schedules scale it there'
    mend = 'use group["lr"] in step, not the config\'s; decay by group["lr"] too'
    with faults.during("step() at learning rate 0", contract=contract, mend=mend):
        for group in problem.optimizer.param_groups:
            group["lr"] = 0.0
        before = problem.weights()
        problem.step(2)
        moved = [name for name, weight in problem.weights().items() if not torch.equal(weight, before[name])]
        faults.expect(not moved, f"at learning rate 0 step() changed {', '.join(moved)}", contract=contract, mend=mend)


def _check_gaps(problem: Problem, faults: Faults) -> None:
    contract = "step() bears parameters without a gradient"
    with faults.during("step() with .grad None", contract=contract, mend="if parameter.grad is None: continue"):
        first, *others = problem.parameters.values()
        first.grad = torch.ones_like(first)
        for parameter in others:
            parameter.grad = None
        problem.optimizer.step()


def _check_resume(problem: Callable[[], Problem], faults: Faults) -> None:
    contract = "a run that is resumed from state_dict() goes on bit for bit, through a checkpoint's files"
    mend = "keep all that step() remembers in self.state[parameter] (tensors, numbers) and in param_groups"
    with faults.during("saving and loading the state", contract=contract, mend=mend):
        whole, half, rest = problem(), problem(), problem()
        whole.step(6)
        half.step(3)
        tensors, values = copy.deepcopy(state_of([half.updater()]))
        saved: Mapping[str, Any] = json.loads(json.dumps(values))  # a checkpoint keeps them as JSON
        restore([rest.updater()], joined_states([(saved, tensors.__getitem__)]))
        with torch.no_grad():
            for name, parameter in rest.parameters.items():
                parameter.copy_(half.parameters[name])
        rest.step(3)
        found = "3 steps, save, load and 3 steps more end in other weights than 6 steps"
        faults.expect(_equal(rest.weights(), whole.weights()), found, contract=contract, mend=mend)


def _equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)
