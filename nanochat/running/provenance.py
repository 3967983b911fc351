"""Where a run came from: code, packages, machine, person, time; for whoever asks later how a result was made.

In: the surroundings, looked at once when a run starts work. Out: plain data. Nothing here can stop a run: what cannot
be found out is left out. Environment variables are not recorded: they hold secrets.
"""

import contextlib
import getpass
import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

import nanochat
from nanochat.hardware import Machine
from nanochat.registry import Registry, describe

_GIT_SECONDS = 10
_PATCH = ("--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")
"""Settings under which `git apply` takes a patch, whatever the user's own are."""
_REDIRECTING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
"""In a git hook these name the repository of the hook."""
_LARGEST_UNTRACKED = 2**20
"""Bytes of a new file that is put into the patch: source, not data."""
_MOST_UNTRACKED = 200
_MOST_UNTRACKED_BYTES = 5 * 2**20
"""Bytes of all new files in the patch together: a folder of small files of data is data too."""
_SECRET = ".env"
"""How the names of files begin that hold secrets by custom; one that nobody has told git to ignore stays out too."""


def now() -> str:
    """The time as records have it: ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).isoformat("T", "seconds")


def collect(recipe_path: Path, machine: Machine, registry: Registry) -> tuple[dict[str, Any], bytes]:
    """The content of env.json, and the uncommitted changes of the source tree as a patch."""
    git, patch = _git(recipe_path)
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
        "git": git,
        "machine": attrs.asdict(machine),
        "packages": packages(),
        "plugins": [dict(plugin) for plugin in describe(registry.plugins)],
        "observed": observed,
    }, patch


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


def _git(recipe_path: Path) -> tuple[dict[str, Any], bytes]:
    """Commit and state of the tree that nanochat runs from, else of the one that the recipe lies in."""
    source = Path(nanochat.__file__).parent.parent
    for folder in (source, recipe_path.parent):
        found = _ask_git(folder, "rev-parse", "--show-toplevel")
        top = Path(os.fsdecode(found).rstrip("\n")) if found is not None else None
        # An installed package may lie inside an unrelated repository.
        if top is None or (folder == source and top != source.resolve()):
            continue
        commit = _ask_git(top, "rev-parse", "HEAD")
        listed = _ask_git(top, "ls-files", "-z", "--others", "--exclude-standard") or b""
        untracked = [os.fsdecode(name) for name in listed.split(b"\0") if name]
        patched = list(_patched(top, untracked))
        patch = _ask_git(top, "diff", *_PATCH, "HEAD") or b""
        patch += b"".join(_ask_git(top, "diff", *_PATCH, "--no-index", "/dev/null", name) or b"" for name in patched)
        return {
            "folder": str(top),
            "commit": commit.decode().strip() if commit else None,
            "dirty": bool(patch or untracked),
            "untracked": untracked,
            "not_in_patch": [name for name in untracked if name not in patched],
        }, patch
    return {}, b""


def _patched(top: Path, untracked: Iterable[str]) -> Iterator[str]:
    """The new files whose content is put into the patch."""
    count, left = 0, _MOST_UNTRACKED_BYTES
    for name in untracked:
        path = top / name
        size = _size(path)
        if size is None or size > min(left, _LARGEST_UNTRACKED) or path.name.startswith(_SECRET):
            continue
        count, left = count + 1, left - size
        if count > _MOST_UNTRACKED:
            return
        yield name


def _size(path: Path) -> int | None:
    """Bytes of a file or link; None for what is neither, a repository in the tree, or is gone meanwhile."""
    with contextlib.suppress(OSError):
        if path.is_symlink() or path.is_file():
            return path.lstat().st_size
    return None


def _ask_git(folder: Path, *arguments: str) -> bytes | None:
    """What git says; None where it fails. `diff --no-index` says with 1 that there is a difference."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            env={name: value for name, value in os.environ.items() if name not in _REDIRECTING},
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 or (done.returncode == 1 and "--no-index" in arguments) else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
