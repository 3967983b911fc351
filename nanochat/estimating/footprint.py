"""The memory of one process that trains: what it holds by part, and the most that it holds at once.

In: a training stage's config, its model's config, its hardware. Out: bytes. A component's config says what it needs
(`moments`, `state_bytes`, `workspace_bytes`: see `nanochat.hooks`); for one that does not, an assumption is made and
named. Counted are torch's allocations, not the process's own code and libraries. No torch.
"""

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any

import attrs

from nanochat.config import Component
from nanochat.estimating.answer import answer, whole
from nanochat.hardware import Hardware
from nanochat.model.sizes import WEIGHT_BYTES, Moment, parameters
from nanochat.training.groups import assign

ELEMENT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
UNKNOWN_STATE_BYTES = 8
"""A parameter's optimizer state where its optimizer does not say: two float32 numbers, as Adam keeps."""


@attrs.frozen(kw_only=True)
class Footprint:
    """Bytes of one process. The parts do not all stand at one moment: `peak` is the most that do."""

    weights: int
    """Parameters and buffers."""
    gradients: int
    optimizer: int
    """The optimizers' state."""
    activations: int
    """What the forward pass leaves for the backward pass, logits apart."""
    logits: int
    """The logits, and the loss's copies and gradients of them."""
    workspace: int
    """The most that an optimizer's step needs beside its state."""
    snapshot: int
    """The copy of weights and state that the main process writes a checkpoint from: in the host's memory, so that it
    counts in the peak of a CPU's process, not in a GPU's."""
    peak: int
    peak_at: str
    """The moment of the peak: loss, head, block 3, embedding, optimizer step."""


@attrs.frozen(kw_only=True)
class Group:
    """One optimizer group with the parameters that it has."""

    name: str
    use: str
    parameters: int
    state: int
    workspace: int
    assumed: bool
    """Its optimizer does not say what it needs."""


def optimizer_groups(optim: Mapping[str, Component], layout: Mapping[str, tuple[int, ...]], dtype: str) -> list[Group]:
    """The groups of a stage, in their order."""
    members = assign(layout, {name: group.slot.match for name, group in optim.items()}).groups
    found = []
    for name, group in optim.items():
        shapes = [layout[member] for member in members[name]]
        count = parameters({member: layout[member] for member in members[name]})
        state = answer(group, "state_bytes", whole, shapes)
        workspace = answer(group, "workspace_bytes", whole, shapes, element_bytes=ELEMENT_BYTES[dtype])
        found.append(
            Group(
                name=name,
                use=group.use,
                parameters=count,
                state=UNKNOWN_STATE_BYTES * count if state is None else state,
                workspace=workspace or 0,
                assumed=state is None,
            )
        )
    return found


def layout_of(model: Component) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of a model's parameters; empty where it does not say."""
    return answer(model, "layout", _shapes) or {}


def footprint(
    model: Component,
    groups: Sequence[Group],
    hardware: Hardware,
    *,
    rows: int,
    accumulates: bool,
    transforms: Sequence[Component] = (),
    snapshot: bool = False,
) -> Footprint | None:
    """The memory of a step that computes `rows` at once; None where the model does not say what it holds.

    transforms: of the model; counted are those that say what they have computed again, or keep in factors. That an
    optimizer which takes no factors has them multiplied out is not counted.
    snapshot: checkpoints are written beside the training, from a copy that stays.
    accumulates: a step has more than one forward and backward pass, so that gradients stand beside the next pass.
    What `shard` shares out is taken as shared equally. Of "full" the weights are counted whole: so they are at the
    start, and while an evaluation lasts.
    """
    processes = hardware.nodes * hardware.nproc_per_node
    updating = processes if hardware.shard in ("optimizer", "full") else 1
    cut = processes if hardware.shard == "full" else 1
    element_bytes = ELEMENT_BYTES[hardware.dtype]
    keywords: dict[str, Any] = {"element_bytes": element_bytes, "device": hardware.device}
    if any(hasattr(transform.config, "recomputes") for transform in transforms):
        keywords["recomputes"] = lambda block: any(
            answer(transform, "recomputes", bool, block) for transform in transforms
        )
    streaming = [transform for transform in transforms if hasattr(transform.config, "columns")]
    if streaming:
        keywords["streams"] = lambda block: max(answer(found, "streams", whole, block) or 0 for found in streaming)
        keywords["columns"] = lambda name: max(answer(found, "columns", whole, name) or 0 for found in streaming)
    moments = answer(model, "moments", _moments, rows, **keywords)
    if moments is None:
        return None
    said = answer(model, "weight_bytes", whole)
    gradients = WEIGHT_BYTES * parameters(layout_of(model)) if said is None else said
    weights = gradients + (answer(model, "buffer_bytes", whole, element_bytes=element_bytes) or 0)
    checkpointed = gradients
    if streaming:
        dense, factored = _in_factors(layout_of(model), keywords["columns"])
        weights, gradients = weights + factored, gradients - dense + factored  # a basis and a probe, GV and GᵀQ
    state = ceil(sum(group.state for group in groups) / updating)
    held = {moment.name: _held(moment, gradients, cut, accumulates=accumulates) for moment in moments}
    held["optimizer step"] = ceil(_largest_step(groups, gradients) / updating)
    copied = ceil(checkpointed / cut) + state if snapshot else 0
    peak_at = max(held, key=lambda name: held[name])
    return Footprint(
        weights=weights,
        gradients=ceil(gradients / cut),
        optimizer=state,
        activations=moments[0].activations,
        logits=moments[0].logits,
        workspace=ceil(max((group.workspace for group in groups), default=0) / updating),
        snapshot=copied,
        peak=weights + state + held[peak_at] + (0 if hardware.device in ("cuda", "xpu") else copied),
        peak_at=peak_at,
    )


def says_what_it_recomputes(transform: Component) -> bool:
    """Whether the memory that a transform saves is counted."""
    return hasattr(transform.config, "recomputes") or hasattr(transform.config, "columns")


def _shapes(layout: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(whole(length) for length in shape) for name, shape in layout.items()}


def _in_factors(layout: Mapping[str, tuple[int, ...]], columns: Callable[[str], int]) -> tuple[int, int]:
    """Bytes of the gradients that are kept in factors: if they were dense, and as they are."""
    found = {name: k for name in layout if (k := columns(name))}
    return (
        WEIGHT_BYTES * parameters({name: layout[name] for name in found}),
        WEIGHT_BYTES * sum(k * sum(layout[name]) for name, k in found.items()),
    )


def _moments(said: Any) -> Sequence[Moment]:
    found = list(said)
    if not found or not all(isinstance(moment, Moment) for moment in found):
        raise TypeError("it gave no list of moments")
    return found


def _held(moment: Moment, gradients: int, cut: int, *, accumulates: bool) -> int:
    own = ceil(gradients / cut) + moment.largest_gradient if accumulates or cut > 1 else moment.gradients
    return moment.activations + moment.logits + own


def _largest_step(groups: Sequence[Group], gradients: int) -> int:
    """Groups are updated in their order, and each forgets its gradients when it is done."""
    most, left = 0, gradients
    for group in groups:
        most = max(most, left + group.workspace)
        left = max(0, left - WEIGHT_BYTES * group.parameters)
    return most
