"""A step whose loss or gradients are not finite: what it was computed from is written down, and the run ends.

In: the batch of this rank and the losses of its parts. Out: nonfinite/step_000012/rank-0.safetensors with the very ids
and targets, and error E501 that names the folder. Every rank writes its own, since one alone may be at fault.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from nanochat.data.loader import Batch
from nanochat.errors import StageError, stage_failure

FOLDER = "nonfinite"


def dump(folder: Path, step: int, rank: int, batch: Batch, losses: Sequence[float]) -> Path:
    """Write this rank's batch; returns the folder of all ranks.

    losses: of the batch's parts in order, in nats, each summed over its targets and divided by those of the step.
    """
    place = folder / FOLDER / f"step_{step:06d}"
    place.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.cpu() for name, tensor in batch.tensors().items()} | {"losses": torch.tensor(losses)}
    small = {name: tensor.int() if tensor.dtype == torch.int64 else tensor for name, tensor in tensors.items()}
    save_file({name: tensor.contiguous() for name, tensor in small.items()}, place / f"rank-{rank}.safetensors")
    return place


def failure(
    what: str, value: float, step: int, at_fault: Sequence[int], rank: int, losses: Sequence[float], place: Path | None
) -> StageError:
    """The error E501, which names the ranks at fault whichever rank's is shown.

    what: the loss, the gradient's norm. at_fault: the ranks that have a loss which is not finite. losses: as in `dump`.
    """
    bad = [str(part) for part, loss in enumerate(losses) if not math.isfinite(loss)]
    where = f"; on rank {', '.join(map(str, at_fault))}" if at_fault else ""
    where += f", in part {', '.join(bad)} of rank {rank}'s batch" if bad else ""
    kept = f"; its rows are in {place}" if place else ""
    return stage_failure(
        "E501",
        f"{what} is {value} at step {step}{where}; no weight was updated by it{kept}",
        help="lower the learning rates, or set grad_clip = 1.0; the last checkpoint is intact",
    )
