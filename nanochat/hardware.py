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
SHARDS = ("auto", "none", "optimizer", "full")


@config
class Hardware:
    """Where a stage runs. Everything but the resolved dtype is execution."""

    launcher: str = option("torchrun", execution=True, doc="a launcher plugin: torchrun, local, …")
    nodes: int = option(1, execution=True, minimum=1, maximum=100_000, doc="machines")
    nproc_per_node: int = option(
        execution=True, derive="hardware.nproc_per_node", minimum=1, maximum=10_000, doc="processes on each machine"
    )
    rendezvous: str = option("", execution=True, doc="HOST:PORT where several nodes meet: the first one's address")
    device: str = option(execution=True, derive="hardware.device", choices=DEVICES, doc="what computes")
    dtype: str = option(derive="hardware.dtype", choices=DTYPES, doc="what activations are computed in")
    shard: str = option(
        execution=True,
        derive="hardware.shard",
        choices=SHARDS,
        doc="what the processes share out: nothing, the optimizers' state, or the weights and gradients as well",
    )


@attrs.frozen(kw_only=True)
class Machine:
    """What was found on this machine."""

    cuda_devices: int
    """NVIDIA's, or AMD's, which torch calls cuda as well."""
    mps: bool
    cpu_cores: int
    memory_bytes: int
    name: str
    xpu_devices: int = 0
    """Intel's GPUs, a processor's own included."""


def probe_machine(root: Path = Path("/")) -> Machine:
    """Look at the machine through the operating system alone: milliseconds, no driver is loaded.

    root: where proc, dev and sys are.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = _nvidia_devices(root) or _amd_devices(root)
    cuda = present if visible is None else min(present, len([v for v in visible.split(",") if v not in ("", "-1")]))
    try:
        cores = len(os.sched_getaffinity(0))
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not Linux
        cores, memory = os.cpu_count() or 1, 0
    return Machine(
        cuda_devices=cuda,
        mps=platform.system() == "Darwin" and platform.machine() == "arm64",
        cpu_cores=cores,
        memory_bytes=memory,
        name=platform.platform(),
        xpu_devices=sum(_text(path) == "0x8086" for path in root.glob("sys/class/drm/renderD*/device/vendor")),
    )


def _nvidia_devices(root: Path) -> int:
    found = len(list(root.glob("proc/driver/nvidia/gpus/*"))) or len(list(root.glob("dev/nvidia[0-9]*")))
    # Windows' Linux has one device file for all, and the driver's library in a place of its own.
    return found or int((root / "dev/dxg").exists() and (root / "usr/lib/wsl/lib/libcuda.so.1").exists())


def _amd_devices(root: Path) -> int:
    """The kernel's compute nodes that are no processors."""
    return sum(_text(path) not in ("", "0") for path in root.glob("sys/class/kfd/kfd/topology/nodes/*/gpu_id"))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def default_device(machine: Machine) -> str:
    """The fastest kind of device the machine has."""
    return "cuda" if machine.cuda_devices else "mps" if machine.mps else "cpu"


def default_dtype(device: str) -> str:
    """bfloat16 where the device's matrix units are made for it; elsewhere float32."""
    return "bfloat16" if device == "cuda" else "float32"


def missing(hardware: Hardware, machine: Machine) -> str:
    """Why this machine cannot run a stage on that hardware, or an empty string."""
    wanted, device = hardware.nproc_per_node, hardware.device
    there = {"cuda": machine.cuda_devices, "xpu": machine.xpu_devices, "mps": int(machine.mps)}.get(device, wanted)
    if there >= wanted:
        return ""
    names = {"cuda": "CUDA device", "xpu": "Intel GPU", "mps": "Apple GPU"}
    asked = f"{wanted} {names[device]}s" if wanted > 1 else f"one {names[device]}"
    return f"asks for {asked}; this machine has {there or 'none'}"
