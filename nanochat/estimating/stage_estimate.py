"""What one stage of a recipe will cost: parameters, FLOPs, memory, text, disk; no time, which is a device's.

In: a resolved recipe, a stage of it, the memory of the device it is to fit. Out: a StageEstimate. Of stages that are
not the core's own nothing is said but that. No torch, no network, no weights are read.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from nanochat.config import Artifact, Component
from nanochat.estimating.data_need import DataNeed, available_characters, data_needs
from nanochat.estimating.footprint import Footprint, Group, footprint, optimizer_groups
from nanochat.model.sizes import WEIGHT_BYTES, parameters
from nanochat.recipe.artifacts import NotRecorded, recorded
from nanochat.recipe.resolved import Recipe, Stage
from nanochat.registry import Registry
from nanochat.stages.evaluate_config import EvaluateConfig
from nanochat.stages.finetune_config import FinetuneConfig
from nanochat.stages.pretrain_config import PretrainConfig
from nanochat.stages.tokenizer_config import TokenizerConfig

USABLE_MEMORY = 0.9
"""The share of a device's memory that may be planned for: allocators need room between tensors."""
PROCESS_BYTES = 2**29
"""What Python, torch and its libraries hold beside tensors, about."""
ID_BYTES = 12
"""Of a tokenizer's file, for each id, about."""
FORWARD_SHARE = 1 / 3
"""Of a training step's FLOPs, the forward pass's; the backward pass takes two products for each of its one."""


@attrs.frozen(kw_only=True)
class Training:
    """A stage that trains a model."""

    model: str
    groups: Sequence[Group]
    flops_per_token: int
    batch_tokens: int
    processes: int
    device_batch_size: int
    micro_steps: int
    """Forward and backward passes of one process for one step."""
    steps: int | None
    """None where only the data decides it."""
    tokens: int | None
    memory: Footprint | None
    """Of one process; None where the model does not say."""
    fitting_batch_size: int | None
    """The largest device_batch_size, a power of 2, that fits the device; 0: none does. None: not known."""
    data: Sequence[DataNeed] = ()


@attrs.frozen(kw_only=True)
class StageEstimate:
    """One stage."""

    name: str
    use: str
    estimated: bool
    parameters: int | None = None
    """Of the model that it trains or measures."""
    training: Training | None = None
    characters: int | None = None
    """tokenizer: what it is trained on."""
    flops: float | None = None
    """All of the stage's that are known; None where its length is not."""
    dtype: str = "float32"
    disk_bytes: int = 0
    """What it leaves in the store, at most."""
    downloads: Mapping[str, int] = attrs.field(factory=dict)
    """Source plugin → bytes."""
    notes: Sequence[str] = ()
    """What was assumed, or is not counted."""


def estimate_stage(stage: Stage, recipe: Recipe, registry: Registry, memory_bytes: int) -> StageEstimate:
    """memory_bytes: of the device that the stage would run on; 0 where it is not known."""
    match stage.config:
        case TokenizerConfig():
            return _tokenizer(stage)
        case PretrainConfig() | FinetuneConfig():
            return _training(stage, model_of(stage, recipe, registry), memory_bytes)
        case EvaluateConfig():
            return _evaluation(stage, model_of(stage, recipe, registry))
        case _:
            return StageEstimate(
                name=stage.name, use=stage.use, estimated=False, notes=[f"the stage `{stage.use}` is not estimated"]
            )


def model_of(stage: Stage, recipe: Recipe, registry: Registry) -> tuple[str, Any] | None:
    """The name and config of the model that a stage trains or measures: its own, or its checkpoint's. None: unknown."""
    own = getattr(stage.config, "model", None)
    if isinstance(own, Component):
        return own.use, own.config
    for field in attrs.fields(type(stage.config)):
        artifact = getattr(stage.config, field.name)
        if isinstance(artifact, Artifact) and artifact.kind == "checkpoint":
            if artifact.reference in stage.inputs:
                return model_of(recipe.stages[stage.inputs[artifact.reference]], recipe, registry)
            try:
                config = recorded(artifact.folder(), ["model"], registry)
            except NotRecorded:
                return None
            return type(config).__name__, config
    return None


def _tokenizer(stage: Stage) -> StageEstimate:
    config: TokenizerConfig = stage.config
    available = [available_characters(source.config) for source in config.data.values()]
    known = sum(count for count in available if count is not None)
    notes = [] if None not in available else ["a source does not say how many characters it has"]
    return StageEstimate(
        name=stage.name,
        use=stage.use,
        estimated=True,
        characters=min(config.max_chars, known),
        flops=0.0,
        disk_bytes=ID_BYTES * config.vocab_size,
        downloads=_downloads(config.data),
        notes=notes,
    )


def _training(stage: Stage, found: tuple[str, Any] | None, memory_bytes: int) -> StageEstimate:
    config = stage.config
    if found is None or not hasattr(found[1], "layout"):
        note = "the model does not say its parameters" if found else "the checkpoint does not say its model"
        return StageEstimate(name=stage.name, use=stage.use, estimated=False, notes=[note])
    use, model = found
    layout = model.layout()
    groups = optimizer_groups(config.optim, layout, stage.hardware.dtype)
    tokens = config.steps * config.total_batch_size if config.steps else None
    training = _plan(stage, use, model, groups, memory_bytes)
    passes = [source for source in training.data if source.passes is None]
    notes = [
        f"`{group.use}` does not say what its state takes: 8 bytes a parameter" for group in groups if group.assumed
    ]
    notes += [f"the source `{source.use}` does not say how much it has" for source in passes]
    notes += [f"the transform `{transform.use}` is not counted" for transform in config.transforms.values()]
    if not hasattr(model, "flops_per_token"):
        notes.append(f"the model `{use}` does not say its FLOPs: 6 a parameter and token")
    if training.memory is None:
        notes.append(f"the model `{use}` does not say what it holds in memory")
    if tokens is None:
        notes.append("it is one pass over its data, whose length is not known before it is read: no time")
    evaluated, silent = _evaluated_tokens(config.evals, config.steps or 1)
    notes += [f"the evaluation `{name}` takes time that is not counted" for name in silent]
    checkpoint = WEIGHT_BYTES * parameters(layout) + sum(group.state for group in groups)
    return StageEstimate(
        name=stage.name,
        use=stage.use,
        estimated=True,
        parameters=parameters(layout),
        training=training,
        flops=training.flops_per_token * (tokens + FORWARD_SHARE * evaluated) if tokens else None,
        dtype=stage.hardware.dtype,
        disk_bytes=(config.checkpoints_kept + 1) * checkpoint,  # the oldest goes when the newest is whole
        downloads=_downloads(config.data),
        notes=notes,
    )


def _plan(stage: Stage, use: str, model: Any, groups: Sequence[Group], memory_bytes: int) -> Training:
    config, hardware = stage.config, stage.hardware
    processes = hardware.nodes * hardware.nproc_per_node
    rows = max(1, config.total_batch_size // (model.sequence_len * processes))  # of one process, in one step

    def memory(size: int) -> Footprint | None:
        return footprint(model, groups, hardware, rows=size, accumulates=rows > size)

    size = min(config.device_batch_size, rows)
    own = memory(size)
    sharing = hardware.nproc_per_node if hardware.device == "cpu" else 1
    room = USABLE_MEMORY * memory_bytes / sharing - PROCESS_BYTES
    fitting = None
    if memory_bytes and own is not None:
        sizes = [2**n for n in range(rows.bit_length())]
        fitting = max((s for s in sizes if (held := memory(s)) is not None and held.peak <= room), default=0)
    tokens = config.steps * config.total_batch_size if config.steps else None
    sources = isinstance(config, PretrainConfig) and tokens
    vocabulary = getattr(model, "vocab_size", 2**15)
    return Training(
        model=use,
        groups=groups,
        flops_per_token=_flops_per_token(model),
        batch_tokens=config.total_batch_size,
        processes=processes,
        device_batch_size=size,
        micro_steps=math.ceil(rows / size),
        steps=config.steps,
        tokens=tokens,
        memory=own,
        fitting_batch_size=fitting,
        data=data_needs(config.data, tokens, vocabulary, packing=config.packing) if sources and tokens else (),
    )


def _evaluation(stage: Stage, found: tuple[str, Any] | None) -> StageEstimate:
    config: EvaluateConfig = stage.config
    tokens, silent = _evaluated_tokens(config.evals, 1)
    notes = [f"the evaluation `{name}` takes time that is not counted" for name in silent]
    known = found is not None and hasattr(found[1], "layout")
    return StageEstimate(
        name=stage.name,
        use=stage.use,
        estimated=True,
        parameters=parameters(found[1].layout()) if found is not None and known else None,
        flops=FORWARD_SHARE * _flops_per_token(found[1]) * tokens if found is not None and known else None,
        dtype=stage.hardware.dtype,
        downloads=_downloads(config.data),
        notes=notes,
    )


def _flops_per_token(model: Any) -> int:
    return int(model.flops_per_token() if hasattr(model, "flops_per_token") else 6 * parameters(model.layout()))


def _evaluated_tokens(evals: Mapping[str, Component], steps: int) -> tuple[int, list[str]]:
    """Tokens that all evaluations of a stage compute, and the names of those that do not say."""
    total, silent = 0, []
    for name, found in evals.items():
        if hasattr(found.config, "forward_tokens"):
            every = found.slot.every or steps
            total += math.ceil(steps / every) * found.config.forward_tokens()
        else:
            silent.append(name)
    return total, silent


def _downloads(components: Mapping[str, Component]) -> dict[str, int]:
    found: dict[str, int] = {}
    for component in components.values():
        if hasattr(component.config, "disk_bytes"):
            found[component.use] = max(found.get(component.use, 0), int(component.config.disk_bytes()))
    return found
