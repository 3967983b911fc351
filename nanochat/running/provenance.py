"""Where a run came from: code, packages, machine, person, time; for whoever asks later how a result was made.

In: the surroundings, looked at once when a run starts work. Out: plain data. Nothing here can stop a run: what cannot
be found out is left out. Environment variables are not recorded: they hold secrets.
"""

import contextlib
import getpass
import importlib.metadata
import json
import platform
import re
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

import nanochat
from nanochat.hardware import Machine
from nanochat.registry import Registry
from nanochat.running.code_size import code_size
from nanochat.running.source_tree import source_trees

PATCHES = {"nanochat": "dirty.patch", "recipe": "recipe.patch"}
"""The files of the uncommitted changes, by what lies in the tree first of all."""


def now() -> str:
    """The time as records have it: ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).isoformat("T", "seconds")


def age(time: str) -> float:
    """Seconds since a time as `now` writes it."""
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds())


def collect(recipe_path: Path, machine: Machine, registry: Registry) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The content of env.json; and the uncommitted changes of the source trees, file name of PATCHES → patch."""
    trees = source_trees(Path(nanochat.__file__).parent.parent, recipe_path.parent)
    patches = {PATCHES[tree.holds[0]]: tree.patch for tree in trees if tree.patch}
    observed = {plugin: _plain(found) for plugin, found in registry.observe("collect_provenance")}
    return {
        "time": now(),
        "argv": sys.argv,
        "cwd": str(Path.cwd()),
        "user": _user(),
        "host": socket.gethostname(),
        "python": sys.version,
        "platform": platform.platform(),
        "nanochat": nanochat.__version__,
        "source_trees": [tree.facts() | {"patch": PATCHES[tree.holds[0]] if tree.patch else None} for tree in trees],
        "machine": attrs.asdict(machine),
        "gpus": gpus(),
        "code": code_size(
            (entry.build, entry.distribution) for plugin in registry.plugins for entry in plugin.components
        ),
        "packages": packages(),
        "plugins": registry.describe(registry.plugins),
        "observed": observed,
    }, patches


def _plain(found: Any) -> Any:
    """What a plugin has found, as env.json can hold it."""
    if isinstance(found, BaseException):
        return f"failed: {type(found).__name__}: {found}"
    try:
        return json.loads(json.dumps(found, default=str))
    except (TypeError, ValueError, RecursionError) as fault:
        return f"failed: it is no plain data: {fault}"


def packages() -> dict[str, str]:
    """Every installed distribution and its version."""
    found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return {name: found[name] for name in sorted(found, key=lambda n: str(n).lower()) if name}


def gpus(root: Path = Path("/")) -> list[str]:
    """The names of NVIDIA's GPUs, as the driver's files have them; empty where there is none."""
    found = []
    for path in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        with contextlib.suppress(OSError):
            named = re.search(r"^Model:\s*(.+?)\s*$", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
            found += [named[1]] if named else []
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
