"""Configuration of `fp8`, and the hardware that it needs."""

from typing import Any

from nanochat.config import config, option

CAPABILITY = 8.9
"""The CUDA compute capability from which matrix units take fp8 (NVIDIA's white papers on Ada and Hopper)."""
REMEDY = "leave the transform fp8 out"


@config
class Fp8Config:
    """Linear layers that train in 8 bits: a GPU from Ada or Hopper on multiplies them twice as fast as bfloat16. Each
    tensor is scaled by its own largest value; forward in e4m3, gradients in e5m2. Evaluations compute in bfloat16.
    """

    smallest: int = option(
        128, minimum=16, maximum=2**20, doc="linears with a side below this stay as they are: too little to gain"
    )

    def lacks(self, hardware: Any, machine: Any) -> str:
        """Why the hardware of a stage cannot do it, with the remedy, or an empty string; of unknown GPUs the worker's
        own trial decides."""
        if hardware.device != "cuda":
            return f"computes on {hardware.device}, and fp8 needs a CUDA device: {REMEDY}"
        if (machine.compute_capability or CAPABILITY) < CAPABILITY:
            has = f"compute capability {machine.compute_capability:g}; {CAPABILITY:g} is needed: Ada, Hopper or later"
            return f"asks for fp8, which this GPU does not compute ({has}): {REMEDY}"
        if hardware.dtype != "bfloat16":
            return f'asks for fp8 beside {hardware.dtype}: set dtype = "bfloat16", or {REMEDY}'
        return ""
