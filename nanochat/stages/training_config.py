"""What the configurations of all training stages have in common."""

from typing import Any, Literal

from nanochat.config import components, config, option
from nanochat.stages.slots import EvalSlot, GroupSlot


@config
class TrainingConfig:
    """Groups, evaluations, the cut of the data into processes, and checkpoints."""

    optim: dict[str, Any] = components("optimizer", slot=GroupSlot, doc="the parameter groups")
    transforms: dict[str, Any] = components(
        "transform", optional=True, doc="changes of the model before it is compiled"
    )
    evals: dict[str, Any] = components(
        "eval", slot=EvalSlot, optional=True, doc="what is measured during training and at its end"
    )

    device_batch_size: int | Literal["auto"] = option(
        32,
        minimum=1,
        maximum=10_000_000,
        execution=True,
        doc="rows that a process computes at once; auto: as many as fit, tried out on CUDA, else 4,096 tokens",
    )
    lanes: int = option(
        8, minimum=1, maximum=100_000, doc="fixed lanes of the data order; the process count divides it"
    )
    determinism: str = option(
        "fixed",
        choices=("fixed", "elastic"),
        doc="the same bits again at the same process count, or at any that divides `lanes`: slower, a pass a lane",
    )
    document_mask: bool = option(False, doc="attention stays within a document; without it, within a row")
    grad_clip: float = option(0.0, minimum=0.0, maximum=1e9, doc="largest norm of the gradient; 0: no clipping")
    compile: bool = option(
        execution=True, derive="training.compile", doc="torch.compile the model: minutes at its start, for faster steps"
    )
    log_every: int = option(
        10, minimum=1, maximum=1_000_000_000, execution=True, doc="steps between lines of metrics.jsonl"
    )
    track_memory: int = option(
        0,
        minimum=0,
        maximum=1_000_000_000,
        execution=True,
        doc="of so many steps, from the second on, the most bytes that tensors take become figures of the record",
    )
    batch_digests: bool = option(
        False, execution=True, doc="write a digest of every step's rows into batches-RANK.jsonl, to compare two runs"
    )
    tag: str = option(execution=True, derive="training.tag", name=True, doc="what its checkpoints are called")
    checkpoint_minutes: float = option(
        10.0, minimum=0.0, maximum=1e6, execution=True, doc="longest time between checkpoints"
    )
    checkpoint_every: int | None = option(
        None, minimum=1, maximum=1_000_000_000, execution=True, doc="steps between checkpoints as well"
    )
    checkpoints_kept: int = option(
        2, minimum=1, maximum=1_000_000, execution=True, doc="the newest are kept; --resume goes back to one"
    )
    checkpoint_async: bool = option(
        True, execution=True, doc="written beside the training, from a copy of weights and state in the host's memory"
    )


OFF_CUDA_TOKENS = 4_096
"""That "auto" computes at once elsewhere: long enough products for full speed, with logits of moderate size."""


def rows_off_cuda(sequence_len: int) -> int:
    """What device_batch_size = "auto" is on a CPU, before it is known how many rows a step has."""
    return max(1, OFF_CUDA_TOKENS // sequence_len)
