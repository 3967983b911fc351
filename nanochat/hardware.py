"""The [hardware] table, and what this machine has, found without importing torch.

In: the recipe's table. Out: the device and dtype a stage will use, its process count, and the reason where the machine
lacks what is asked for. Not here: torch's own view of the device; that is `nanochat.runtime`, in a worker.
"""

import os
import platform
import re
from pathlib import Path

import attrs

from nanochat.config import Problem, config, option

DEVICES = ("auto", "cuda", "mps", "xpu", "cpu")
DTYPES = ("auto", "float32", "bfloat16", "float16")
ATTENTION = ("auto", "dense", "banded", "flex", "flash3", "flash4")
ONLY_ON_CUDA = ("flex", "flash3", "flash4")
"""Kernels of attention that train nowhere else."""
BFLOAT16_CAPABILITY = 8.0
"""The CUDA compute capability from which matrix units take bfloat16 (NVIDIA, Ampere's architecture white paper)."""
SHARDS = ("auto", "none", "optimizer", "full")


_TIME = re.compile(r"(\d+-)?\d+(:\d{2}){0,2}")
OWN_DIRECTIVES = (
    *("job-name", "nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "time", "partition", "account"),
    *("output", "open-mode", "requeue", "no-requeue", "signal"),
)
"""Options of a scheduler that other keys of the table stand for."""


@config
class Job:
    """[hardware.job]: what a launcher that hands the work to a scheduler asks for."""

    time: str = option("", execution=True, doc="its limit, D-HH:MM:SS or HH:MM:SS; empty: the partition's")
    partition: str = option("", execution=True, doc="the queue; empty: the scheduler's default")
    account: str = option("", execution=True, doc="who pays; empty: the user's default")
    cores: int = option(
        0, execution=True, minimum=0, maximum=4096, doc="processor cores for each process; 0: what the scheduler gives"
    )
    notice: int = option(
        300,
        execution=True,
        minimum=30,
        maximum=86_400,
        doc="seconds before the limit at which the stage saves and stops",
    )
    directives: list[str] = option([], execution=True, doc='more of the scheduler\'s options: "--constraint=h100"')
    setup: list[str] = option([], execution=True, doc='shell lines before the workers start: "module load cuda"')

    def problems(self) -> list[Problem]:
        """A time that is none, directives that are none or that other keys stand for."""
        found: list[Problem] = []
        if self.time and not _TIME.fullmatch(self.time):
            found.append(("time", f'"{self.time}" is no time: write D-HH:MM:SS or HH:MM:SS'))
        for directive in self.directives:
            name = re.match(r"--([a-z0-9-]+)(=\S.*)?$", directive)
            if name is None or "\n" in directive:
                found.append(("directives", f'"{directive}" is no option: write "--name=value" or "--name"'))
            elif name[1] in OWN_DIRECTIVES:
                found.append(("directives", f"--{name[1]} follows from other keys of the table: take it out"))
        return found


@config
class Hardware:
    """Where a stage runs. Everything but the resolved dtype and the products' precision is execution."""

    launcher: str = option(
        execution=True,
        derive="hardware.launcher",
        doc="what starts the processes: torchrun, local, slurm, or a plugin's",
    )
    nodes: int = option(1, execution=True, minimum=1, maximum=100_000, doc="machines")
    nproc_per_node: int = option(
        execution=True, derive="hardware.nproc_per_node", minimum=1, maximum=10_000, doc="processes on each machine"
    )
    rendezvous: str = option("", execution=True, doc="HOST:PORT where several nodes meet: the first one's address")
    rendezvous_backend: str = option(
        "c10d",
        execution=True,
        choices=("c10d", "static"),
        doc="how nodes meet: c10d gives out their ranks; static takes them from --node-rank, or from the scheduler",
    )
    rendezvous_timeout: int = option(
        600, execution=True, minimum=10, maximum=86_400, doc="seconds for which nodes wait for one another"
    )
    network_interface: str = option(
        "", execution=True, doc="of the network between nodes, such as eth0 or ib0; empty: torch looks for it"
    )
    job: Job = option(Job(), doc="what a scheduler is asked for, beside nodes and processes")
    device: str = option(execution=True, derive="hardware.device", choices=DEVICES, doc="what computes")
    dtype: str = option(derive="hardware.dtype", choices=DTYPES, doc="what activations are computed in")
    matmul_precision: str = option(
        "highest",
        choices=("highest", "high"),
        doc="of float32 matrix products; high lets a GPU round their factors to tf32, which is faster",
    )
    attention: str = option(
        "auto", execution=True, choices=ATTENTION, doc="its kernel; auto tries out which of them works and is fastest"
    )
    shard: str = option(
        execution=True,
        derive="hardware.shard",
        choices=SHARDS,
        doc="what the processes share out: nothing, the optimizers' state, or the weights and gradients as well",
    )
    timeout_seconds: float = option(
        600.0,
        execution=True,
        minimum=2.0,
        maximum=1e6,
        doc="longest wait of a process for the others; one that stands still for half of it is given up with them",
    )
    restarts: int = option(
        3,
        execution=True,
        minimum=0,
        maximum=1_000_000,
        doc="how often a stage is started again, without a new checkpoint between, after a process is lost",
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
    compute_capability: float | None = None
    """NVIDIA's number for what a GPU can do, the lowest of those that are here; None where it is not known."""


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
        compute_capability=_lowest_capability(root),
        xpu_devices=sum(_text(path) == "0x8086" for path in root.glob("sys/class/drm/renderD*/device/vendor")),
    )


def _nvidia_devices(root: Path) -> int:
    found = len(list(root.glob("proc/driver/nvidia/gpus/*"))) or len(list(root.glob("dev/nvidia[0-9]*")))
    # Windows' Linux has one device file for all, and the driver's library in a place of its own.
    return found or int((root / "dev/dxg").exists() and (root / "usr/lib/wsl/lib/libcuda.so.1").exists())


def _amd_devices(root: Path) -> int:
    """The kernel's compute nodes that are no processors."""
    return sum(_text(path) not in ("", "0") for path in root.glob("sys/class/kfd/kfd/topology/nodes/*/gpu_id"))


# By NVIDIA's list of CUDA GPUs; the newest first, for "RTX 6000 Ada" is no "RTX 6000".
_CAPABILITIES = (
    (10.0, r"[BG]B?[123]00\b|GB10\b|RTX 50\d\d|RTX PRO"),
    (9.0, r"G?H(100|200|800|20)\b"),
    (8.9, r"Ada\b|RTX 40\d\d|L(4|20|40S?)\b"),
    (8.0, r"A(100|800|30|40|10G?|16|2|\d000)\b|RTX (30\d\d|A\d+)"),
    (7.5, r"T4\b|RTX 20\d\d|GTX 16|Quadro RTX|TITAN RTX|Quadro T|T\d{3,4}\b"),
    (7.0, r"V100|TITAN V\b|GV100"),
    (6.0, r"P(100|40|4)\b|GTX 10|TITAN X|Quadro P"),
    (5.0, r"M(60|40|10|6|4)\b|GTX 9|Quadro M|K80"),
)


def capability_of(model: str) -> float | None:
    """The compute capability of a GPU, as low as in its family; None for a model that is not known."""
    return next((found for found, names in _CAPABILITIES if re.search(rf"\b({names})", model)), None)


def _lowest_capability(root: Path) -> float | None:
    """Of the models that the driver tells in proc; asking the driver itself would start it, which takes seconds."""
    texts = [_text(path) for path in root.glob("proc/driver/nvidia/gpus/*/information")]
    models = [found.group(1) for text in texts if (found := re.search(r"^Model:\s*(.+)$", text, re.MULTILINE))]
    return min((known for model in models if (known := capability_of(model)) is not None), default=None)


def processors(root: Path = Path("/")) -> list[str]:
    """What the machine's processor and NVIDIA's GPUs call themselves, each model once; what is not told is left out."""
    places = [root / "proc/cpuinfo", *sorted(root.glob("proc/driver/nvidia/gpus/*/information"))]
    found = (re.search(r"^(?:model name|Model)\s*:\s*(.+)$", _text(path), re.MULTILINE) for path in places)
    return list(dict.fromkeys(match.group(1).strip() for match in found if match))


def bfloat16_instructions(root: Path = Path("/")) -> list[str]:
    """The processor's instructions for products of bfloat16 matrices, as Linux calls them; none on other systems."""
    flags = re.search(r"^(?:flags|Features)\s*:(.+)$", _text(root / "proc/cpuinfo"), re.MULTILINE)
    present = set(flags.group(1).split()) if flags else set()
    return [name for name in ("amx_bf16", "avx512_bf16", "bf16", "svebf16") if name in present]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def default_device(machine: Machine) -> str:
    """The fastest kind of device the machine has."""
    return "cuda" if machine.cuda_devices else "mps" if machine.mps else "cpu"


def default_dtype(device: str, machine: Machine) -> str:
    """bfloat16 where the device's matrix units are made for it, as those of a GPU that is not known; else float32."""
    return "bfloat16" if device == "cuda" and _has_bfloat16(machine) else "float32"


def _has_bfloat16(machine: Machine) -> bool:
    return (machine.compute_capability or BFLOAT16_CAPABILITY) >= BFLOAT16_CAPABILITY


def missing(hardware: Hardware, machine: Machine) -> str:
    """Why this machine cannot run a stage on that hardware, with what to do; or an empty string."""
    wanted, device = hardware.nproc_per_node, hardware.device
    there = {"cuda": machine.cuda_devices, "xpu": machine.xpu_devices, "mps": int(machine.mps)}.get(device, wanted)
    if there >= wanted:
        return _unsuited(hardware, machine)
    names = {"cuda": "CUDA device", "xpu": "Intel GPU", "mps": "Apple GPU"}
    asked = f"{wanted} {names[device]}s" if wanted > 1 else f"one {names[device]}"
    setting = f"nproc_per_node = {there}" if there else 'device = "cpu"'
    return f"asks for {asked}; this machine has {there or 'none'}: run it elsewhere, or set {setting}"


def _unsuited(hardware: Hardware, machine: Machine) -> str:
    """What the devices that are there cannot do, with the setting to change, or an empty string."""
    if hardware.device == "cuda" and hardware.dtype == "bfloat16" and not _has_bfloat16(machine):
        has = f"compute capability {machine.compute_capability:g}; {BFLOAT16_CAPABILITY:g} is needed"
        return f'asks for bfloat16, which this GPU does not compute ({has}): set dtype = "float32"'
    if hardware.attention in ONLY_ON_CUDA and hardware.device != "cuda":
        return f'asks for attention = "{hardware.attention}", which needs a CUDA device: set attention = "auto"'
    return ""
