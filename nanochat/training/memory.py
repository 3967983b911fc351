"""The memory that this process holds, as the system or the device's allocator counts it."""

import resource
import sys

import torch


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory this process has held: on the GPU where it computes there, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
