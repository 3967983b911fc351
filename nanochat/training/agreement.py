"""What all ranks know of a step before any of them updates a weight.

In: a rank's share of the loss, the norm, and its votes. Out: the same `Agreed` on every rank. It is the one exchange of
a step beside the gradients, and the one wait for the device.
"""

import attrs
import torch
from torch import Tensor

from nanochat.runtime import Runtime


@attrs.frozen(kw_only=True)
class Agreed:
    """The sums, and what any rank asked for."""

    loss: float
    """The mean over the targets of all ranks, in nats."""
    gradient_norm: float
    """Before clipping, without the loss scale."""
    stop: bool
    overdue: bool
    """A checkpoint is, by the clock or because one was asked for."""
    all_ready: bool
    """Each rank has its next batch."""
    all_written: bool
    """Each rank has written its files of the checkpoint in flight."""


def agree(
    runtime: Runtime, loss: Tensor, norm: Tensor, *, scale: float, stop: bool, overdue: bool, waits: bool, writing: bool
) -> Agreed:
    """One sum over the ranks.

    loss: this rank's share of the step's. norm: of the summed gradients, alike on all ranks, multiplied by `scale`.
    The others are this rank's votes. waits: for data. writing: a checkpoint.
    """
    votes = torch.tensor([stop, overdue, waits, writing], dtype=loss.dtype, device=loss.device)
    summed = runtime.sum(torch.cat([loss.view(1), votes]))
    mean, stops, late, waiting, at_files, norm_found = torch.cat([summed, norm.to(loss.dtype).view(1)]).tolist()
    return Agreed(
        loss=mean,
        gradient_norm=norm_found / scale,
        stop=stops > 0,
        overdue=late > 0,
        all_ready=waiting == 0,
        all_written=at_files == 0,
    )
