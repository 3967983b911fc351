"""Devices to compute on: what this machine has, measured or looked up, and accelerators by name.

In: a name, or what was probed of this machine. Out: memory in bytes and peak FLOP/s by dtype. A GPU's are those of
`nanochat.accelerators`; a CPU's is measured, by products of NumPy's. Imports no torch and loads no driver.
"""

import shutil
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence

import attrs

from nanochat.accelerators import ACCELERATORS, recognised
from nanochat.errors import did_you_mean, wrong_input
from nanochat.hardware import Machine

GIB = 2**30
PROBES, FEWEST_PROBES, PROBE_PRODUCTS = 11, 5, 4
"""Measurements of a CPU, and products in each: half a second on two idle cores. What else runs on a machine comes and
goes within a second, so one measurement alone may be off by a half."""
PROBE_SECONDS = 1.0
"""Beyond it no more than the fewest are made."""
LARGE_SPREAD = 1.2
"""The fastest of the middle probes over the slowest, from which both are told."""
PROBE_SIZE = 1024
"""Rows and columns of the matrices that a CPU multiplies to be measured."""


@attrs.frozen(kw_only=True)
class Device:
    """A kind of device."""

    name: str
    kind: str
    """cuda, mps or cpu."""
    memory_bytes: int
    """0 where it is not known."""
    flops: Mapping[str, float]
    """dtype → peak FLOP/s; empty where they are not known."""
    source: str
    """Where the figures come from."""
    spread: tuple[float, float] | None = None
    """Where measurements differed: the slow and the fast ones' FLOP/s, as factors of those above."""


def named_device(name: str) -> Device:
    """An accelerator of the table. InputError E407 that lists them."""
    if name.lower() not in ACCELERATORS:
        near = did_you_mean(name.lower(), ACCELERATORS)
        raise wrong_input(
            "E407",
            f"there are no figures for a GPU called {name!r}{'; ' + near if near else ''}",
            help=f"known: {', '.join(ACCELERATORS)}",
        )
    return _accelerator(name.lower())


def this_device(machine: Machine) -> Device:
    """What this machine computes on by default; a CPU is measured, which takes about a second."""
    if machine.cuda_devices:
        return _found_gpu()
    if machine.mps:
        return Device(
            name="this machine's Apple GPU",
            kind="mps",
            memory_bytes=machine.memory_bytes,
            flops={},
            source="its speed is not known",
        )
    return this_cpu(machine)


def this_cpu(machine: Machine) -> Device:
    """This machine's processor, measured now: other work on it makes it slower."""
    peak, spread = middle(_probes())
    cores = f"{machine.cpu_cores} CPU core{'s' if machine.cpu_cores != 1 else ''}"
    return Device(
        name=f"this machine, {cores}",
        kind="cpu",
        memory_bytes=machine.memory_bytes,
        flops=dict.fromkeys(("float32", "bfloat16", "float16"), peak),
        source=f"float32 products measured just now, beside whatever else runs: {_rates(peak, spread)}",
        spread=spread,
    )


def _accelerator(name: str) -> Device:
    known = ACCELERATORS[name]
    return Device(
        name=name,
        kind="cuda",
        memory_bytes=known.gibibytes * GIB,
        flops={dtype: known.peak_flops(dtype) for dtype in ("bfloat16", "float16", "float32")},
        source=f"its maker's dense peaks: {known.half} TFLOP/s in bfloat16, {known.single} in float32",
    )


def _found_gpu() -> Device:
    """This machine's GPUs, by the name that the driver's tool gives; all are taken to be like the first."""
    name, mebibytes = "a GPU of unknown make", 0
    tool = shutil.which("nvidia-smi")
    if tool is not None:
        query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
        try:
            said = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
            name, size = (part.strip() for part in said.splitlines()[0].rsplit(",", 1))
            mebibytes = int(size)
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            pass
    known = recognised(name, mebibytes)
    device = _accelerator(known) if known else None
    return Device(
        name=f"this machine, {name}",
        kind="cuda",
        memory_bytes=mebibytes * 2**20 or (device.memory_bytes if device else 0),
        flops=device.flops if device else {},
        source=device.source if device else "its speed is not known: name a GPU with --gpu",
    )


def middle(rates: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """The median of some measurements; and where they differ much, their quartiles as factors of it."""
    slow, median, fast = statistics.quantiles(rates, n=4)
    return median, (slow / median, fast / median) if fast > LARGE_SPREAD * slow else None


def _rates(peak: float, spread: tuple[float, float] | None) -> str:
    said = f"{peak / 1e9:.0f} GFLOP/s"
    return said if spread is None else f"{said}, mostly between {' and '.join(f'{peak * s / 1e9:.0f}' for s in spread)}"


def _probes() -> list[float]:
    """FLOP/s, measured several times."""
    import numpy as np  # 0.1 s that a GPU's table does without

    left = np.full((PROBE_SIZE, PROBE_SIZE), 0.5, dtype=np.float32)
    right, product = left.copy(), np.empty_like(left)
    np.matmul(left, right, out=product)  # threads start
    rates: list[float] = []
    began = time.perf_counter()
    while len(rates) < FEWEST_PROBES or (len(rates) < PROBES and time.perf_counter() - began < PROBE_SECONDS):
        start = time.perf_counter()
        for _ in range(PROBE_PRODUCTS):
            np.matmul(left, right, out=product)
        rates.append(PROBE_PRODUCTS * 2.0 * PROBE_SIZE**3 / (time.perf_counter() - start))
    return rates
