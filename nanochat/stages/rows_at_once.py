"""How many rows a stage's process computes at once: as the recipe says, or what suits the device."""

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from nanochat.config import Component
from nanochat.stages.context import StageContext
from nanochat.stages.training_config import rows_off_cuda
from nanochat.stages.training_faults import rows_of_a_rank
from nanochat.training import groups, micro_batch


def rows_at_once(config: Any, model: Any, vocab_size: int, context: StageContext, rows: int | None = None) -> int:
    """config's device_batch_size; where that is "auto", found out for the model, not compiled, and noted.

    rows: of this rank in a step; None: those of `total_batch_size` tokens.
    """
    runtime = context.runtime
    if config.device_batch_size != "auto":
        return int(config.device_batch_size)
    sequence_len = model.config.sequence_len
    rows = rows or rows_of_a_rank(config.total_batch_size, sequence_len, runtime.world_size)
    if runtime.device.type == "cuda":
        chosen = micro_batch.probed(
            model,
            runtime,
            rows=rows,
            vocab_size=vocab_size,
            documents=config.document_mask,
            reserved=state_bytes(config.optim, model, updating=1 if runtime.shard == "none" else runtime.world_size),
        )
    else:
        chosen = min(rows, rows_off_cuda(sequence_len))
    context.reporter.note(f"{chosen} of {rows} rows at once (device_batch_size = auto)")
    return chosen


def state_bytes(optim: Mapping[str, Component], model: nn.Module, *, updating: int = 1) -> int:
    """What the groups' optimizers will keep in one of `updating` processes that share it out; two float32 numbers a
    parameter for one that does not say.
    """
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    members = groups.assign(shapes, {name: group.slot.match for name, group in optim.items()}).groups
    total = 0
    for name, group in optim.items():
        own = [shapes[member] for member in members[name]]
        said = getattr(group.config, "state_bytes", None)
        total += said(own) if callable(said) else sum(8 * math.prod(shape) for shape in own)
    return math.ceil(total / updating)
