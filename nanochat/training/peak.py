"""The peak speed of the matrix products of a run's devices, which its own speed is compared with.

A GPU's is its maker's, where it is in the table; all else is measured for a moment, in the run's own dtype.
"""

import time

import torch

from nanochat.accelerators import ACCELERATORS, recognised
from nanochat.runtime import Runtime

SIZES = {"cpu": 1024, "mps": 4096, "cuda": 8192}
"""Rows and columns of the matrices that are multiplied: 2, 137 and 1,100 GFLOP."""
PRODUCTS = 5
"""The fastest counts: on a CPU other work slows some of them down."""
ENOUGH_SECONDS = 1.0
"""After which no further product is begun: where a dtype is not the processor's own, one takes 4 s."""


def peak_flops(runtime: Runtime) -> float:
    """FLOP/s of all ranks together, each its own device's or its share of the cores. Every rank asks."""
    return float(runtime.sum(torch.tensor(_own(runtime), dtype=torch.float32)))


def _own(runtime: Runtime) -> float:
    if runtime.device.type == "cuda":
        properties = torch.cuda.get_device_properties(runtime.device)
        known = recognised(properties.name, properties.total_memory // 2**20)
        if known is not None:
            return ACCELERATORS[known].peak_flops(str(runtime.dtype).removeprefix("torch."))
    return measured(runtime.device, runtime.dtype)


def measured(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest of a few products; a tenth of a second on two cores."""
    n = SIZES.get(device.type, SIZES["mps"])
    left = torch.full((n, n), 0.5, dtype=dtype, device=device)
    right, product, seconds = left.clone(), torch.empty_like(left), []
    for _ in range(PRODUCTS + 1):
        began = time.perf_counter()
        torch.matmul(left, right, out=product)
        product[0, 0].item()  # waits for the device
        seconds.append(time.perf_counter() - began)
        if sum(seconds) > ENOUGH_SECONDS:
            break
    return 2.0 * n**3 / min(seconds[1:] or seconds)  # in the first one threads and kernels start
