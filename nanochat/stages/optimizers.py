"""The optimizers of a training stage, and the exchange between its processes.

In: the recipe's groups, the model, the Runtime. Out: an Exchange over the model's parameters, and an optimizer for each
group over what this process updates of it. A process that updates nothing of a group has no optimizer for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from torch import nn

from nanochat.config import Component
from nanochat.stages.context import StageContext
from nanochat.training import groups, schedule, share
from nanochat.training.exchange import Exchange
from nanochat.training.group_table import GroupRow, group_row, table_text
from nanochat.training.lanes import ElasticExchange
from nanochat.training.optimizer import Optimizer
from nanochat.training.optimizer_state import Part, Updater


@attrs.frozen(kw_only=True)
class Grouped:
    """A group with its parameters."""

    component: Component
    parameters: Mapping[str, nn.Parameter]


def grouped(optim: Mapping[str, Component], model: nn.Module) -> dict[str, Grouped]:
    """Each group with the parameters that its patterns match, in the model's order."""
    parameters = dict(model.named_parameters())
    assignment = groups.assign(parameters, {name: group.slot.match for name, group in optim.items()})
    assert not (assignment.unmatched or assignment.doubled or assignment.empty), "the recipe engine checks the groups"
    return {
        name: Grouped(component=group, parameters={member: parameters[member] for member in assignment.groups[name]})
        for name, group in optim.items()
    }


def build(config: Any, model: nn.Module, context: StageContext, lr_factor: float) -> tuple[Exchange, Sequence[Updater]]:
    """Exchange and optimizers of a stage, whose table of groups is shown. lr_factor: the stage's own."""
    found = grouped(config.optim, model)
    context.reporter.note("the parameter groups\n" + table_text(group_rows(found, lr_factor)))
    exchange = build_exchange(config, found, model, context)
    return exchange, build_updaters(config, found, exchange, context, lr_factor)


def group_rows(found: Mapping[str, Grouped], lr_factor: float) -> list[GroupRow]:
    """The table of the groups, of the model as it is."""
    return [
        group_row(group.component, {name: tuple(p.shape) for name, p in group.parameters.items()}, lr_factor)
        for group in found.values()
    ]


def build_exchange(config: Any, found: Mapping[str, Grouped], model: nn.Module, context: StageContext) -> Exchange:
    """The exchange that `determinism` of the stage and `shard` of [hardware] ask for."""
    runtime, elastic = context.runtime, config.determinism == "elastic"
    elementwise = [
        name
        for group in found.values()
        if getattr(group.component.config, "elementwise", False) and not elastic
        for name in group.parameters
    ]
    layout = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    shared = share.shares(
        layout,
        shard=runtime.shard,
        world_size=runtime.world_size,
        elementwise=elementwise,
        smallest=share.SMALLEST,
    )
    if elastic:
        return ElasticExchange(model, shared, runtime, config.lanes)
    if runtime.shard == "full" and runtime.world_size > 1:
        from nanochat.training.fully_sharded import FullExchange  # half a second of imports

        return FullExchange(model, shared, runtime)
    return Exchange(model, shared, runtime)


def build_updaters(
    config: Any, found: Mapping[str, Grouped], exchange: Exchange, context: StageContext, lr_factor: float
) -> list[Updater]:
    """The optimizers of this process; learning rates scaled as the slots say.

    Under `determinism = "elastic"` every parameter has one of its own: what is stacked with what, and so the order of
    its sums, must not depend on who updates what.
    """
    updaters = []
    for group in found.values():
        mine = [name for name in group.parameters if name in exchange.parts]
        for names in [[name] for name in mine] if config.determinism == "elastic" else [mine] if mine else []:
            parts = {name: _part(name, exchange) for name in names}
            members = {name: part.parameter for name, part in parts.items()}
            optimizer = context.build(group.component, members, context.runtime)
            schedule.remember_peaks([optimizer], lr_factor * group.component.slot.lr_factor)
            updaters.append(Updater(group=group.component.name, optimizer=optimizer, parts=parts))
    return updaters


def by_group(optim: Mapping[str, Component], updaters: Sequence[Updater]) -> dict[str, list[Optimizer]]:
    """The optimizers of this process by group, of every group."""
    return {name: [updater.optimizer for updater in updaters if updater.group == name] for name in optim}


def _part(name: str, exchange: Exchange) -> Part:
    runtime, its, whole = exchange.runtime, exchange.shares[name], exchange.parameters[name]
    rows = its.rows(whole.shape, runtime.rank, runtime.world_size)
    assert rows is not None
    return Part(parameter=exchange.parts[name], start=rows[0], stop=rows[1], saved_here=its.saves(runtime.rank))
