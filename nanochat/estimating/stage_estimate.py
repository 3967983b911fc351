"""What one stage of a recipe will cost: parameters, FLOPs, memory, text, disk; no time, which is a device's.

In: a resolved recipe, a stage of it, the memory of the device it is to fit. Out: a StageEstimate. Of stages that are
not the core's own nothing is said but that. No torch, no network, no weights are read.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from nanochat.config import Component
from nanochat.estimating.answer import answer, size_of, whole
from nanochat.estimating.data_need import DataNeed, available_characters, pretraining_needs
from nanochat.estimating.footprint import (
    ELEMENT_BYTES,
    Footprint,
    Group,
    footprint,
    layout_of,
    optimizer_groups,
    says_what_it_recomputes,
)
from nanochat.model.sizes import WEIGHT_BYTES, parameters
from nanochat.recipe.model_of import model_of
from nanochat.recipe.resolved import Recipe, Stage
from nanochat.registry import Registry
from nanochat.stages.evaluate_config import EvaluateConfig
from nanochat.stages.finetune_config import FinetuneConfig
from nanochat.stages.pretrain_config import PretrainConfig
from nanochat.stages.reinforce_config import ReinforceConfig
from nanochat.stages.tokenizer_config import TokenizerConfig
from nanochat.stages.training_config import rows_off_cuda

USABLE_MEMORY = 0.9
"""The share of a device's memory that may be planned for: allocators need room between tensors."""
DEVICE_PROCESS_BYTES, CPU_PROCESS_BYTES = 2**29, 750 * 2**20
"""What a process holds beside tensors, about: on a device its context; on the CPU Python, torch and its libraries
(resident after `import torch` 552 MB, after the first step of an optimizer 733 MB, torch 2.15)."""
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
    micro_steps: int | None
    """Forward and backward passes of one process for one step; None where the model does not say how long rows are."""
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
    decode_bytes: tuple[int, int] | None = None
    """What one more token reads at the end of a full context: weights, and of each row keys and values."""
    evaluation_flops: float = 0.0
    """Those of its FLOPs that evaluations take."""
    dtype: str = "float32"
    disk_bytes: int = 0
    """What it leaves in the store, at most."""
    downloads: Mapping[str, int] = attrs.field(factory=dict)
    """Source plugin → bytes."""
    notes: Sequence[str] = ()
    """What was assumed."""
    untimed: Sequence[str] = ()
    """What takes time that is not counted."""


def estimate_stage(stage: Stage, recipe: Recipe, registry: Registry, memory_bytes: int) -> StageEstimate:
    """memory_bytes: of the device that the stage would run on; 0 where it is not known."""
    match stage.config:
        case TokenizerConfig():
            return _tokenizer(stage)
        case PretrainConfig() | FinetuneConfig() | ReinforceConfig():
            return _training(stage, model_of(stage, recipe, registry), memory_bytes)
        case EvaluateConfig():
            return _evaluation(stage, model_of(stage, recipe, registry))
        case _:
            return StageEstimate(
                name=stage.name, use=stage.use, estimated=False, notes=[f"the stage `{stage.use}` is not estimated"]
            )


def _tokenizer(stage: Stage) -> StageEstimate:
    config: TokenizerConfig = stage.config
    available = [available_characters(source) for source in config.data.values()]
    known = [count for count in available if count is not None]
    all_say = len(known) == len(available)
    return StageEstimate(
        name=stage.name,
        use=stage.use,
        estimated=True,
        characters=min(config.max_chars, sum(known)) if all_say else config.max_chars,
        flops=0.0,
        disk_bytes=ID_BYTES * config.vocab_size,
        downloads=_downloads(config.data),
        notes=[] if all_say else ["a source does not say how many characters it has: `max_chars` are taken"],
    )


def _training(stage: Stage, model: Component | None, memory_bytes: int) -> StageEstimate:
    config = stage.config
    layout = layout_of(model) if model is not None else {}
    if model is None or not layout:
        note = "the model does not say its parameters" if model else "the checkpoint does not say its model"
        return StageEstimate(name=stage.name, use=stage.use, estimated=False, notes=[note])
    training = _plan(stage, model, optimizer_groups(config.optim, layout, stage.hardware.dtype), memory_bytes)
    evaluated, silent = _evaluated_tokens(config.evals, config.steps or 1)
    checkpoint = WEIGHT_BYTES * parameters(layout) + sum(group.state for group in training.groups)
    length = training.tokens + FORWARD_SHARE * evaluated if training.tokens else None
    return StageEstimate(
        name=stage.name,
        use=stage.use,
        estimated=True,
        parameters=parameters(layout),
        training=training,
        flops=training.flops_per_token * length if length is not None else None,
        decode_bytes=_decode_bytes(model, stage.hardware.dtype),
        evaluation_flops=training.flops_per_token * FORWARD_SHARE * evaluated if training.tokens else 0.0,
        dtype=stage.hardware.dtype,
        disk_bytes=(config.checkpoints_kept + 1) * checkpoint,  # the oldest goes when the newest is whole
        downloads=_downloads(config.data),
        notes=_assumed(stage, model, training),
        untimed=[*_rollouts(config), *_answers(silent), *(["torch.compile"] if config.compile else [])],
    )


def _assumed(stage: Stage, model: Component, training: Training) -> list[str]:
    """What had to be assumed or left out, in words."""
    notes = [
        f"`{group.use}` does not say what its state takes: 8 bytes a parameter"
        for group in training.groups
        if group.assumed
    ]
    silent = [need for need in training.data if need.passes is None]
    notes += [f"the source `{need.use}` does not say how much it has" for need in silent]
    silent_transforms = [found for found in stage.config.transforms.values() if not says_what_it_recomputes(found)]
    notes += [f"the transform `{transform.use}` is not counted" for transform in silent_transforms]
    if not hasattr(model.config, "flops_per_token"):
        notes.append(f"the model `{model.use}` does not say its FLOPs: 6 a parameter and token")
    kept = answer(model, "weight_bytes", whole)
    if kept is not None and kept < WEIGHT_BYTES * parameters(layout_of(model)):
        notes.append("optimizers' state is counted as of float32 weights: of smaller ones it may be less")
    if isinstance(stage.config, ReinforceConfig):
        notes.append("problems are counted as long as answers may become: `max_tokens` each")
        notes += ["the initial model, kept for `kl`, is not counted in the memory"] if stage.config.kl else []
    if training.memory is None:
        notes.append(f"the model `{model.use}` does not say what it holds in memory")
    if training.tokens is None:
        notes.append(
            "it is one pass over its data, whose length is known once it is read: no time. To have one, say its steps, "
            f"about the data's tokens over {training.batch_tokens:,}: --set stages.{stage.name}.steps=N"
        )
    return notes


def process_bytes(device: str) -> int:
    """What a process holds beside tensors where these lie on a device of this kind."""
    return CPU_PROCESS_BYTES if device == "cpu" else DEVICE_PROCESS_BYTES


def _plan(stage: Stage, model: Component, groups: Sequence[Group], memory_bytes: int) -> Training:
    config, hardware = stage.config, stage.hardware
    processes = hardware.nodes * hardware.nproc_per_node
    sequence_len = size_of(model, "sequence_len")
    batch_tokens, rows = _step(config, sequence_len, processes)
    sharing = hardware.nproc_per_node if hardware.device == "cpu" else 1
    room = USABLE_MEMORY * memory_bytes / sharing - process_bytes(hardware.device) if memory_bytes else None
    size = _rows_at_once(stage, model, groups, rows, room)
    held, fitting = _memory(stage, model, groups, rows, size, room) if rows else (None, None)
    tokens = config.steps * batch_tokens if config.steps else None
    data = pretraining_needs(config) if isinstance(config, PretrainConfig) else ()
    return Training(
        model=model.use,
        groups=groups,
        flops_per_token=_flops_per_token(model),
        batch_tokens=batch_tokens,
        processes=processes,
        device_batch_size=size,
        micro_steps=math.ceil(rows / size) if rows else None,
        steps=config.steps,
        tokens=tokens,
        memory=held,
        fitting_batch_size=fitting,
        data=data,
    )


def _step(config: Any, sequence_len: int | None, processes: int) -> tuple[int, int | None]:
    """Tokens of a step, and the rows of one process in it."""
    if isinstance(config, ReinforceConfig):
        rows, longest = config.problems_per_step * config.samples, 2 * config.max_tokens
        return rows * min(sequence_len or longest, longest), max(1, rows // processes)
    tokens: int = config.total_batch_size
    return tokens, max(1, tokens // (sequence_len * processes)) if sequence_len else None


def _rows_at_once(stage: Stage, model: Component, groups: Sequence[Group], rows: int | None, room: float | None) -> int:
    """device_batch_size, and what "auto" will probably be: on CUDA what fits by formula; the worker tries it out."""
    wanted, sequence_len = stage.config.device_batch_size, size_of(model, "sequence_len")
    if wanted != "auto":
        return min(int(wanted), rows or int(wanted))
    if rows is None or sequence_len is None:
        return 1
    if stage.hardware.device != "cuda":
        return min(rows, rows_off_cuda(sequence_len))
    _, fitting = _memory(stage, model, groups, rows, 1, room)
    return fitting or 1


def _memory(
    stage: Stage, model: Component, groups: Sequence[Group], rows: int, size: int, room: float | None
) -> tuple[Footprint | None, int | None]:
    """What `size` of a step's `rows` hold at once, and the largest power of 2 whose peak has room (bytes)."""

    transforms = list(stage.config.transforms.values())

    def held(size: int) -> Footprint | None:
        return footprint(
            model,
            groups,
            stage.hardware,
            rows=size,
            accumulates=rows > size,
            transforms=transforms,
            snapshot=stage.config.checkpoint_async,
        )

    own = held(size)
    if own is None or room is None:
        return own, None
    fitting, candidate = 0, 1
    while candidate <= rows and (found := held(candidate)) is not None and found.peak <= room:
        fitting, candidate = candidate, 2 * candidate
    return own, fitting


def _evaluation(stage: Stage, model: Component | None) -> StageEstimate:
    config: EvaluateConfig = stage.config
    tokens, silent = _evaluated_tokens(config.evals, 1)
    layout = layout_of(model) if model is not None else {}
    flops = FORWARD_SHARE * _flops_per_token(model) * tokens if model is not None and layout else None
    return StageEstimate(
        name=stage.name,
        use=stage.use,
        estimated=True,
        parameters=parameters(layout) if layout else None,
        flops=flops,
        evaluation_flops=flops or 0.0,
        dtype=stage.hardware.dtype,
        downloads=_downloads(config.data),
        untimed=_answers(silent),
    )


def _decode_bytes(model: Component, dtype: str) -> tuple[int, int] | None:
    context = size_of(model, "sequence_len")
    if context is None:
        return None
    return answer(model, "decode_bytes", _two, context, element_bytes=ELEMENT_BYTES[dtype])


def _two(said: Any) -> tuple[int, int]:
    weights, cache = said
    return whole(weights), whole(cache)


def _flops_per_token(model: Component) -> int:
    said = answer(model, "flops_per_token", whole)
    return 6 * parameters(layout_of(model)) if said is None else said


def _evaluated_tokens(evals: Mapping[str, Component], steps: int) -> tuple[int, list[str]]:
    """Tokens that all evaluations of a stage compute, and the names of those that do not say."""
    total, silent = 0, []
    for name, found in evals.items():
        tokens = answer(found, "forward_tokens", whole)
        if tokens is None:
            silent.append(name)
        else:
            total += math.ceil(steps / (found.slot.every or steps)) * tokens
    return total, silent


def _rollouts(config: Any) -> list[str]:
    return ["the answers that are sampled, which take most of the time"] if isinstance(config, ReinforceConfig) else []


def _answers(silent: Sequence[str]) -> list[str]:
    """Evaluations that generate: how long a model's answers are, only the model knows."""
    names = ", ".join(f"`{name}`" for name in silent)
    return [f"the evaluation{'s' if len(silent) > 1 else ''} {names}"] if silent else []


def _downloads(components: Mapping[str, Component]) -> dict[str, int]:
    found: dict[str, int] = {}
    for component in components.values():
        n_bytes = answer(component, "disk_bytes", whole)
        if n_bytes is not None:
            found[component.use] = max(found.get(component.use, 0), n_bytes)
    return found
