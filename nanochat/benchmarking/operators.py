"""Where the time of training steps goes, operator by operator, and what limits each: torch's profiler, read.

In: a function that takes steps, the device and its two limits. Out: a row for each operator, the longest first. Matrix
products are held to the device's peak, all else to its memory's bandwidth. Bytes are a count by shapes: every input is
read once and as much as the largest is written, in the run's dtype; caches make it less, so more than the whole of the
limit can be reached.
"""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs
import torch
from torch.profiler import ProfilerActivity, profile

COPIED_BYTES = 2**28
WRITTEN_ONLY = ("aten::fill_", "aten::zero_")
COPIES = ("aten::copy_", "aten::clone")
"""They write what they read, and are given both."""


@attrs.frozen(kw_only=True)
class Operator:
    """What one operator did in a step."""

    name: str
    calls: float
    seconds: float
    """Of the device that computes: a GPU's own time, or a CPU's in the thread that calls."""
    flops: float
    """Of matrix products; 0 for all else."""
    moved_bytes: float

    def least_seconds(self, peak_flops: float, bandwidth: float) -> float:
        """What its limit allows: peak_flops in FLOP/s for a matrix product, bandwidth in bytes/s for all else."""
        return self.flops / peak_flops if self.flops else self.moved_bytes / bandwidth


def operators(take: Callable[[int], None], steps: int, device: torch.device, dtype: torch.dtype) -> list[Operator]:
    """Run `take(steps)` under the profiler. A row for each operator, as of one step; the last is what is none's."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with _quiet(), profile(activities=activities, record_shapes=True) as profiler:
        began = time.perf_counter()
        take(steps)
        if on_gpu:
            torch.cuda.synchronize(device)
        elapsed = time.perf_counter() - began
    rows: dict[str, Operator] = {}
    for event in profiler.key_averages(group_by_input_shape=True):
        seconds = (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6
        if seconds <= 0:
            continue
        shapes = [s for s in event.input_shapes if s and all(isinstance(n, int) for n in s)]
        flops = event.count * _flops(event.key, shapes)
        moved = event.count * _moved_numbers(event.key, shapes) * dtype.itemsize
        known = rows.get(event.key, Operator(name=event.key, calls=0, seconds=0, flops=0, moved_bytes=0))
        rows[event.key] = Operator(
            name=event.key,
            calls=known.calls + event.count / steps,
            seconds=known.seconds + seconds / steps,
            flops=known.flops + flops / steps,
            moved_bytes=known.moved_bytes + moved / steps,
        )
    found = sorted(rows.values(), key=lambda row: -row.seconds)
    rest = max(0.0, elapsed / steps - sum(row.seconds for row in found))
    return [*found, Operator(name="between operators", calls=1, seconds=rest, flops=0, moved_bytes=0)]


def bandwidth(device: torch.device) -> float:
    """Bytes/s that are read and written where 256 MB are copied: the fastest of a few times."""
    source = torch.ones(COPIED_BYTES // 4, device=device)
    target, seconds = torch.empty_like(source), []
    for _ in range(4):
        began = time.perf_counter()
        target.copy_(source)
        target[0].item()  # waits for the device
        seconds.append(time.perf_counter() - began)
    return 2 * COPIED_BYTES / min(seconds)


def _flops(name: str, shapes: Sequence[Sequence[int]]) -> int:
    """2·M·K·N of each product of (…, M, K) and (…, K, N), the last two operands."""
    if name.removeprefix("aten::").rstrip("_") not in ("mm", "addmm", "bmm", "baddbmm") or len(shapes) < 2:
        return 0
    return 2 * math.prod(shapes[-2]) * shapes[-1][-1]


def _moved_numbers(name: str, shapes: Sequence[Sequence[int]]) -> int:
    counts = [math.prod(shape) for shape in shapes]
    largest = max(counts, default=0)
    if name in WRITTEN_ONLY:
        return largest
    return 2 * largest if name in COPIES else sum(counts) + largest


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the profiler's C++ says on standard error on a machine without a GPU."""
    saved = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
