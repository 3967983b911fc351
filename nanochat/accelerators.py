"""Accelerators by name: memory, peak speed of matrix products, power, and how drivers write the names.

Sources: NVIDIA's data sheets and architecture white papers, AMD's for MI300X. Imports no torch and loads no driver.
"""

import re

import attrs


@attrs.frozen
class Accelerator:
    """One kind of GPU."""

    gibibytes: int
    """As the driver reports them."""
    half: float
    """TFLOP/s of dense products in bfloat16 or float16 with float32 accumulation."""
    single: float
    """TFLOP/s in float32 without tensor cores."""
    watts: float
    """The board's power limit, as its maker's data sheet has it."""

    def peak_flops(self, dtype: str) -> float:
        """FLOP/s of dense products in "bfloat16", "float16" or "float32"."""
        return 1e12 * (self.single if dtype == "float32" else self.half)


ACCELERATORS = {
    "b200": Accelerator(179, 2250, 75, 1000),
    "h200": Accelerator(140, 989, 67, 700),
    "h100": Accelerator(79, 989, 67, 700),
    "h100-pcie": Accelerator(79, 756, 51, 350),
    "gh200": Accelerator(95, 989, 67, 700),
    "a100-80": Accelerator(79, 312, 19.5, 400),
    "a100-40": Accelerator(39, 312, 19.5, 400),
    "mi300x": Accelerator(191, 1307, 163, 750),
    "l40s": Accelerator(44, 362, 91.6, 350),
    "l4": Accelerator(22, 121, 30.3, 72),
    "a10": Accelerator(22, 125, 31.2, 150),
    "rtx6000-ada": Accelerator(47, 364, 91.1, 300),
    "rtx5090": Accelerator(31, 209, 105, 575),
    "rtx4090": Accelerator(23, 165, 82.6, 450),
    "rtx3090": Accelerator(23, 71, 35.6, 350),
}
_WORDS = re.compile(r"rtx|[a-z]*\d+[a-z]*|[a-z]+")
"""Of a name in the table, as a driver writes them: rtx 6000 ada."""


def recognised(name: str, mebibytes: int) -> str | None:
    """The name in the table of what a driver calls "NVIDIA A100-SXM4-40GB"; None for other makes, an RTX A1000 say."""
    words = set(re.findall(r"[a-z0-9]+", name.lower()))
    if "laptop" in words:  # another chip under the desktop's name
        return None
    if "a100" in words:
        return "a100-80" if mebibytes > 41_000 else "a100-40"
    candidates = [known for known in ACCELERATORS if words.issuperset(_WORDS.findall(known))]
    return max(candidates, key=len, default=None)
