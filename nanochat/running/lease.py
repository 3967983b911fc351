"""The right to work in a folder, held by one process at a time.

An flock on the file `lease`, so that a crash frees it. The descriptor is handed on to the processes that are started
to do the work: as long as one of them lives, nobody else gets in, even if the runner was killed. Who holds it stands
in the file.

Between the lock and the holder's name in the file there is a moment. Whoever comes in it waits for the name.

Whoever only asks takes the lock shared, for a moment. A runner that comes in this moment can tell it from a holder,
whose lock is exclusive, and tries again: `nanochat runs` disturbs no run.
"""

import fcntl
import os
import random
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

from nanochat.errors import InputError, wrong_input
from nanochat.running.json_file import canonical, read_json

FILE = "lease"
_RETRY_SECONDS = 0.01
_NAME_SECONDS = 1.0
"""How long a holder may take to write its name before it goes without one."""


@attrs.frozen(kw_only=True)
class Lease:
    """A held lease."""

    folder: Path
    descriptor: int
    """To be inherited by what works in the folder."""


@contextmanager
def lease(folder: Path, *, what: str, wait: float = 0.0) -> Iterator[Lease]:
    """Hold the folder's lease. InputError E402, which says who has it, where it is taken.

    `what` names the folder to a person. wait: seconds for a holder that needs it only for a moment.
    """
    descriptor = _acquire(folder, what, wait)
    try:
        os.ftruncate(descriptor, 0)
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat("T", "seconds"),
        }
        os.pwrite(descriptor, (canonical(holder) + "\n").encode(), 0)
        yield Lease(folder=folder, descriptor=descriptor)
    finally:
        os.ftruncate(descriptor, 0)  # so that nobody takes this process for the next holder
        # Unlocking frees the lease even if a stray grandchild still has the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether someone works in the folder at this moment."""
    try:
        descriptor = os.open(folder / FILE, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _acquire(folder: Path, what: str, wait: float) -> int:
    began = time.monotonic()
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o644)
        if _locked(descriptor, fcntl.LOCK_EX):
            if _is_still_there(folder / FILE, descriptor):
                return descriptor
            os.close(descriptor)  # the folder was moved aside between open and flock
            continue
        only_asked = _locked(descriptor, fcntl.LOCK_SH)
        os.close(descriptor)
        if not only_asked:
            holder = read_json(folder / FILE) or {}
            waited = time.monotonic() - began
            if waited >= wait and ("pid" in holder or waited > _NAME_SECONDS):
                raise _busy(holder, what)
        time.sleep(random.uniform(0, _RETRY_SECONDS))  # unequal waits: two runners in this place part


def _locked(descriptor: int, kind: int) -> bool:
    """Take a lock unless somebody's excludes it."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _busy(holder: Mapping[str, Any], what: str) -> InputError:
    who = (
        f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
        if "pid" in holder
        else "another process"
    )
    return wrong_input(
        "E402",
        f"{what} is being run by {who}",
        help="wait until it is done, or stop that process; then the same command goes on",
    )
