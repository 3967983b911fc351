"""The [hardware] table, and what this machine has, found without importing torch.

In: the recipe's table. Out: the device and dtype a stage will use, its process count, and the reason where the machine
lacks what is asked for. Not here: torch's own view of the device; that is `nanochat.runtime`, in a worker.
"""

import os
import platform
from pathlib import Path

import attrs

from nanochat.config import config, option

DEVICES = ("auto", "cuda", "mps", "xpu", "cpu")
DTYPES = ("auto", "float32", "bfloat16", "float16")


@config
class Hardware:
    """Where a stage runs. Everything but the resolved dtype is execution."""

    launcher: str = option("torchrun", execution=True, doc="a launcher plugin: torchrun, local, …")
    nodes: int = option(1, execution=True, minimum=1, doc="machines")
    nproc_per_node: int = option(
        execution=True, derive="hardware.nproc_per_node", minimum=1, doc="processes on each machine"
    )
    rendezvous: str = option("", execution=True, doc="HOST:PORT where several nodes meet: the first one's address")
    device: str = option(execution=True, derive="hardware.device", choices=DEVICES, doc="what computes")
    dtype: str = option(derive="hardware.dtype", choices=DTYPES, doc="what activations are computed in")


@attrs.frozen(kw_only=True)
class Machine:
    """What was found on this machine."""

    cuda_devices: int
    mps: bool
    cpu_cores: int
    memory_bytes: int
    name: str


def probe_machine() -> Machine:
    """Look at the machine through the operating system alone: milliseconds, no driver is loaded."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = len(list(Path("/proc/driver/nvidia/gpus").glob("*"))) or len(list(Path("/dev").glob("nvidia[0-9]*")))
    cuda = present if visible is None else min(present, len([v for v in visible.split(",") if v not in ("", "-1")]))
    try:
        cores = len(os.sched_getaffinity(0))
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not Linux
        cores, memory = os.cpu_count() or 1, 0
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return Machine(cuda_devices=cuda, mps=apple, cpu_cores=cores, memory_bytes=memory, name=platform.platform())


def default_device(machine: Machine) -> str:
    """The fastest kind of device the machine has."""
    return "cuda" if machine.cuda_devices else "mps" if machine.mps else "cpu"


def default_dtype(device: str) -> str:
    """bfloat16 where the device's matrix units are made for it; elsewhere float32."""
    return "bfloat16" if device == "cuda" else "float32"


def missing(hardware: Hardware, machine: Machine) -> str:
    """Why this machine cannot run a stage on that hardware, or an empty string."""
    if hardware.device == "cuda":
        wanted = hardware.nproc_per_node
        if machine.cuda_devices < wanted:
            found = f"this machine has {machine.cuda_devices}" if machine.cuda_devices else "this machine has none"
            return f"asks for {wanted} CUDA device{'s' if wanted > 1 else ''}; {found}"
    if hardware.device == "mps" and not machine.mps:
        return "asks for an Apple GPU; this machine has none"
    return ""
