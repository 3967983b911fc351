"""The contract of an optimizer: what the loop asks of the object that updates one named group of parameters.

A plugin's builder is called as `build(config, parameters, runtime)` with the group's parameters by name. It finds each
parameter's `.grad` set (averaged over ranks) when `step` is called. A torch.optim.Optimizer fulfils the contract.
"""

from typing import Any, Protocol


class Optimizer(Protocol):
    """Updates its parameters from their gradients.

    `param_groups` are dictionaries with `params`, `lr`, and where it uses them `momentum` and `weight_decay`: the
    loop's schedules scale these before every step, from the values they were built with. A group with `constant`
    true keeps its momentum and weight decay; the learning rate alone follows its schedule.

    With an attribute `takes_factors` true it looks for `factored_gradient.factors(parameter)` as well: a gradient that
    came in factors, in place of `.grad`. For any other optimizer these are multiplied out just before its step.
    """

    param_groups: list[dict[str, Any]]

    def step(self) -> Any:
        """Update every parameter in place."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs, in torch.optim's layout: `state` by parameter index, `param_groups`."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
