"""How many rows a process computes at once, where a recipe leaves it to the machine.

On a CUDA device by trying: real passes of more and more rows until memory is short, while what the optimizers will need
is kept free. Elsewhere by a rule. It changes no result, only how a step is cut into pieces.
"""

from collections.abc import Callable
from typing import Any

import torch

from nanochat.data.loader import Batch
from nanochat.runtime import Runtime
from nanochat.training.factored_gradient import forget_sums
from nanochat.training.objective import cross_entropy

USABLE_MEMORY = 0.9
"""The share of the device's memory that may be planned for: allocators need room between tensors."""


def largest_fitting(rows: int, fits: Callable[[int], bool]) -> int:
    """The largest power of 2, at most `rows`, that fits, by doubling; 1 where not even that does: the run says so."""
    size = 1
    if fits(1):
        while 2 * size <= rows and fits(2 * size):
            size *= 2
    return size


def probed(model: Any, runtime: Runtime, *, rows: int, vocab_size: int, documents: bool, reserved: int) -> int:
    """The rows that fit beside `reserved` bytes of optimizers' state on the CUDA device of every rank.

    model: not compiled (compilation needs less). Its gradients are forgotten. rows: this rank's of a step.
    """
    device, sequence_len = runtime.device, model.config.sequence_len
    free, _ = torch.cuda.mem_get_info(device)
    room = USABLE_MEMORY * (free + torch.cuda.memory_reserved(device)) - reserved

    def fits(size: int) -> bool:
        ids = torch.arange(size * sequence_len).view(size, sequence_len) % vocab_size
        batch = Batch(ids, ids, torch.zeros(ids.shape, dtype=torch.int32) if documents else None)
        peak = peak_of_passes(model, batch, device, passes=1 if size >= rows else 2)
        return not runtime.any(peak is None or peak > room)

    model.train()
    return largest_fitting(rows, fits)


def peak_of_passes(model: Any, batch: Batch, device: torch.device, *, passes: int) -> int | None:
    """The most bytes allocated in forward and backward passes over a batch; None where there was not so much.

    Two of them, where a step has more than one: gradients then stand beside the second one.
    """
    torch.cuda.reset_peak_memory_stats(device)
    try:
        for _ in range(passes):
            cross_entropy(model, batch, device).backward()
        return torch.cuda.max_memory_allocated(device)
    except torch.OutOfMemoryError:
        return None
    finally:
        model.zero_grad(set_to_none=True)
        forget_sums(model.parameters())
        torch.cuda.empty_cache()
