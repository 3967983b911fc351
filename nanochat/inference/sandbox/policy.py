"""What a sandboxed run may use, and which layers must hold it.

In: a recipe's options. Out: the limits, and for this machine the layers with what each is told: plain data, of which
`run.py` makes the orders of a run. InputError E604 where `strict` demands a layer that cannot be had here.
"""

import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanochat.config import config, option
from nanochat.errors import InputError, wrong_input
from nanochat.inference.sandbox import landlock, seccomp

DEMANDED = ("process", "rlimits", "privileges", "landlock", "seccomp")
"""What strict cannot do without. Namespaces are taken where they can be had: many systems forbid them to users."""
MIB = 1 << 20


@config
class SandboxConfig:
    """How code that a model wrote is run."""

    sandbox: str = option(
        "strict",
        choices=("strict", "best-effort"),
        execution=True,
        doc="strict: refuse to run code where a layer of the sandbox cannot be had; best-effort: with those that can",
    )
    seconds: float = option(5.0, minimum=0.01, maximum=3600.0, doc="by the clock, from where the code begins")
    memory_mib: int = option(512, minimum=64, maximum=1 << 20, doc="address space")
    disk_mib: int = option(16, minimum=1, maximum=1 << 20, doc="of a file, and of all files in the scratch folder")
    output_bytes: int = option(
        65_536, minimum=1, maximum=1 << 30, doc="kept of what is printed, of each stream; the rest is dropped"
    )


THREADS = 64
FILES = 512
"""In the scratch folder. More threads or files end a run."""
DESCRIPTORS = 64


def layers(limits: SandboxConfig, scratch: Path, parent: int) -> dict[str, Any]:
    """The orders for `child.py`: layer → what it is told, and what is `demanded`. InputError E604."""
    linux = sys.platform == "linux"
    orders: dict[str, Any] = {"linux": linux, "process": parent, "rlimits": _rlimits(limits)}
    if linux:
        orders |= {"namespaces": None, "privileges": None}
        if version := landlock.version():
            orders["landlock"] = landlock.ruleset(scratch, version)
        if (machine := platform.machine()) in seccomp.ARCHITECTURES:
            orders["seccomp"] = seccomp.program(machine)
    orders["demanded"] = DEMANDED if limits.sandbox == "strict" else ()
    for layer in orders["demanded"]:
        if layer not in orders:
            raise refused(layer, _REASONS[layer] if linux else f"{platform.system()} has none")
    return orders


_REASONS: Mapping[str, str] = {
    "landlock": "this kernel has no Landlock, or it is switched off",
    "seccomp": f"there is no filter for {platform.machine()}, only for {' and '.join(seccomp.ARCHITECTURES)}",
}


def refused(layer: str, reason: str) -> InputError:
    """The sandbox lacks a layer."""
    return wrong_input(
        "E604",
        f"code that a model wrote cannot be run here: the sandbox's layer `{layer}` cannot be had: {reason}",
        help='use a Linux kernel of 5.13 or later with Landlock and seccomp, or say sandbox = "best-effort": '
        "then the code is held by fewer layers",
    )


def _rlimits(limits: SandboxConfig) -> list[tuple[int, int]]:
    import resource  # not on Windows, where a recipe is planned all the same

    wanted = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, int(limits.seconds) + 2),
        (resource.RLIMIT_FSIZE, limits.disk_mib * MIB),
        (resource.RLIMIT_NOFILE, DESCRIPTORS),
    ]
    if sys.platform == "linux":  # elsewhere it is not kept, or not known
        wanted.append((resource.RLIMIT_AS, limits.memory_mib * MIB))
    return wanted
