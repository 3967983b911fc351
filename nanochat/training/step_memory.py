"""The most memory that tensors take during a training step, of a few steps: told by torch's allocator.

In: a device, and how many steps are looked at. Out: bytes. On CUDA the allocator counts anyway; on a CPU its events are
recorded by the profiler, which slows the steps that are looked at by a few per cent. Not here: what the process takes
beside tensors (nanochat/training/memory.py).
"""

from typing import Any

import attrs
import torch
from torch.profiler import ProfilerActivity, profile


@attrs.define(kw_only=True)
class StepMemory:
    """Looks at `steps` steps, from the second of this process on: in the first one optimizers make their state."""

    device: torch.device
    steps: int = 0
    most: int = 0
    """Bytes above what stood when a step began: activations, gradients, workspace."""
    begun: int = 0
    _profiler: Any = None
    _before: int = 0

    @property
    def looks(self) -> bool:
        """Whether this step is looked at."""
        return 1 < self.begun <= 1 + self.steps and self.device.type in ("cpu", "cuda")

    def begin(self) -> None:
        """A step begins. On CUDA its peak counts from now on, also for `peak_memory_bytes`."""
        self.begun += 1
        if self.looks and self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        elif self.looks:
            self._profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
            self._profiler.start()

    def end(self) -> None:
        """It ends."""
        if self.looks and self.device.type == "cuda":
            self.most = max(self.most, torch.cuda.max_memory_allocated(self.device) - self._before)
        elif self.looks:
            self._profiler.stop()
            self.most = max(self.most, most_bytes(self._profiler))
            self._profiler = None

    def figures(self, held: int) -> dict[str, int]:
        """For the record; empty where no step was looked at. held: bytes of weights and optimizers' state."""
        return {"step_memory_bytes": self.most, "training_memory_bytes": held + self.most} if self.most else {}


def most_bytes(profiler: Any) -> int:
    """The most that tensors took while a torch.profiler.profile with profile_memory recorded, above what stood before.

    It is the highest sum of the allocator's events, in their order.
    """
    level = most = 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            level += event.nbytes()
            most = max(most, level)
    return most
