"""The base of the first-party optimizers: what torch.optim.Optimizer keeps and saves, without what it imports.

torch's class imports the compiler (torch._dynamo and sympy) when one is made and in each step, compiled or not: several
seconds of every start of every process. A plugin may derive from either.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class StatefulOptimizer:
    """Groups of parameters and the state of each parameter, saved in torch.optim's layout."""

    def __init__(self, groups: Iterable[dict[str, Any]], defaults: Mapping[str, Any]) -> None:
        self.param_groups: list[dict[str, Any]] = [{**defaults, **group} for group in groups]
        self.state: dict[nn.Parameter, dict[str, Any]] = defaultdict(dict)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for parameter in self._parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    def state_dict(self) -> dict[str, Any]:
        """`state` by the parameter's number, and `param_groups` with numbers in place of parameters."""
        numbers = {id(parameter): number for number, parameter in enumerate(self._parameters())}
        state = {numbers[id(parameter)]: slots for parameter, slots in self.state.items()}
        groups = [{**group, "params": [numbers[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave, on the parameters' devices. ValueError where it is of other groups."""
        groups = state_dict["param_groups"]
        if [len(group["params"]) for group in groups] != [len(group["params"]) for group in self.param_groups]:
            raise ValueError("the state is of other groups of parameters")
        self.param_groups = [
            {**group, "params": own["params"]} for group, own in zip(groups, self.param_groups, strict=True)
        ]
        self.state.clear()
        numbers = [number for group in groups for number in group["params"]]
        for number, parameter in zip(numbers, self._parameters(), strict=True):
            if number in state_dict["state"]:
                self.state[parameter] = {
                    slot: _like(parameter, slot, value) for slot, value in state_dict["state"][number].items()
                }

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]


def _like(parameter: nn.Parameter, slot: str, value: Any) -> Any:
    """A saved slot on the parameter's device and in its dtype; the count of steps stays float32, as torch has it."""
    if not isinstance(value, Tensor):
        return value
    return value.to(parameter.device, torch.float32 if slot == "step" else parameter.dtype)
