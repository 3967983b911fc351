"""What a training takes over from the optimizers of the checkpoint that it starts from: peak rates, and their memory.

In: the checkpoint's folder; groups, or optimizers that were just built. Out: groups whose `lr` is the inherited one;
optimizers that remember what those of the checkpoint did. Parameters are found by their names, whatever the groups
were called there. Not here: weights, and going on with the stage's own checkpoint.
"""

from collections.abc import Mapping, Sequence

import attrs
from torch import nn

from nanochat.config import Artifact, Component
from nanochat.errors import StageError, stage_failure
from nanochat.runtime import Runtime
from nanochat.stages import optimizers
from nanochat.training.manifest import refuse_weights_alone, verify
from nanochat.training.optimizer_state import SavedState, Updater, read_states, take_over


def inherit_rates(
    optim: Mapping[str, Component], model: nn.Module, init: Artifact, runtime: Runtime
) -> dict[str, Component]:
    """The groups with the peak learning rates that their parameters had.

    StageError E115, E406; InputError E115 where the checkpoint holds weights alone.
    """
    saved = _saved(init, runtime, "`inherit_lr`")
    peaks = {name: options.get("peak_lr") for (_, name), options in saved.options.items()}
    inherited = {}
    for group, found in optimizers.grouped(optim, model).items():
        rates = {peaks.get(name) for name in found.parameters}
        if len(rates) != 1 or None in rates or not hasattr(found.component.config, "lr"):
            raise _nothing_to_inherit(group, init, rates)
        (rate,) = rates
        config = attrs.evolve(found.component.config, lr=rate)
        slot = attrs.evolve(found.component.slot, lr_factor=1.0)  # the peak holds the factors of its own stage
        inherited[group] = attrs.evolve(found.component, config=config, slot=slot)
    return inherited


def warm_start(updaters: Sequence[Updater], init: Artifact, runtime: Runtime) -> None:
    """Give optimizers what those of the checkpoint remember.

    StageError E115 where it does not fit, E406; InputError E115 where the checkpoint holds weights alone.
    """
    try:
        take_over(updaters, _saved(init, runtime, "`warm_start`"))
    except (KeyError, ValueError) as fault:
        raise stage_failure(
            "E115",
            f"the optimizers cannot start from the state of {init.reference}: {fault}",
            help="give the stage the groups of the one that made the checkpoint, or leave `warm_start` out",
        ) from fault


def _saved(init: Artifact, runtime: Runtime, option: str) -> SavedState:
    verify(init.folder())
    refuse_weights_alone(init.folder(), init.reference, option)
    return read_states(init.folder(), runtime.device)


def _nothing_to_inherit(group: str, init: Artifact, rates: set[float | None]) -> StageError:
    found = ", ".join(sorted(f"{rate:.4g}" for rate in rates if rate is not None)) or "none"
    return stage_failure(
        "E115",
        f"the group `{group}` has no one learning rate to inherit from {init.reference}: its parameters had {found}",
        help="let the group have parameters of one rate and an optimizer with `lr`, or leave `inherit_lr` out",
    )
