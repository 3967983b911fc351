"""Small numbers on their way to the device: queued there, so that Python goes on while it computes.

In: numbers. Out: a tensor. Memory that a GPU's driver may move makes a copy wait for all that was launched before it; a
decoding step would then wait once for each of its settings, and not once, for its ids.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def on_device(values: Sequence[object], device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """The numbers, nested or not, as a tensor on the device; dtype: as torch.tensor chooses."""
    on_gpu = device.type == "cuda"
    # Not queued elsewhere: memory that is not pinned would be used again before it was read.
    return torch.tensor(values, dtype=dtype, pin_memory=on_gpu).to(device, non_blocking=on_gpu)
