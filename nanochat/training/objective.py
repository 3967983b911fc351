"""What a step minimises: a sum over the targets of a batch's rows, which the loop divides by the targets of all ranks.

Pretraining and finetuning take the cross-entropy; what reinforcement takes is in policy_gradient.py.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from nanochat.data.loader import Batch

Objective = Callable[[Any, Batch, torch.device], Tensor]
"""Model, rows, device → the sum over the rows' targets."""


def cross_entropy(model: Any, batch: Batch, device: torch.device) -> Tensor:
    """The sum of the losses of a batch's targets, in nats. From pinned memory, the copies run beside the model."""
    inputs, targets = batch.inputs.to(device, non_blocking=True), batch.targets.to(device, non_blocking=True)
    if batch.documents is None:
        loss = model(inputs, targets, reduction="sum")
    else:
        loss = model(inputs, targets, reduction="sum", documents=batch.documents.to(device, non_blocking=True))
    return cast(Tensor, loss)
