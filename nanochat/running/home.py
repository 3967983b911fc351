"""Checks, before any work is done, that runs and results can be written.

In: the folders of `nanochat.home`. Out: nothing, or an E401 that says what to do. The check writes and syncs a small
file: permissions alone tell nothing of a full or read-only disk.
"""

import errno
import os
import tempfile
from pathlib import Path

from nanochat.errors import Diagnostic, InputError, StageError
from nanochat.home import HOME, data_dir, home, runs_dir, store_dir

__all__ = ["check_home", "data_dir", "disk_failure", "home", "home_error", "is_disk_fault", "runs_dir", "store_dir"]

_PROBE_BYTES = 4096
_FULL = (errno.ENOSPC, errno.EDQUOT)


def check_home() -> None:
    """Make the runs and store folders and write a small file into each; InputError E401 where that fails."""
    for folder in (runs_dir(), store_dir()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-") as probe:
                probe.write(b"\0" * _PROBE_BYTES)
                probe.flush()
                os.fsync(probe.fileno())
        except OSError as fault:
            raise home_error(folder, fault) from fault


def is_disk_fault(fault: OSError) -> bool:
    """Whether the disk is full or read-only: what the user can mend, wherever it happens."""
    return fault.errno in (*_FULL, errno.EROFS)


def home_error(folder: Path, fault: OSError) -> InputError:
    """The error for a folder that cannot be written, before any work."""
    return InputError(_diagnostic(folder, fault))


def disk_failure(folder: Path, fault: OSError) -> StageError:
    """The error for a disk that is full, or has become read-only, while a stage runs."""
    return StageError(_diagnostic(folder, fault))


def _diagnostic(folder: Path, fault: OSError) -> Diagnostic:
    # The path of the probe itself would say nothing to a reader.
    place = folder if fault.filename is None or Path(fault.filename).parent == folder else Path(fault.filename)
    if fault.errno in _FULL:
        return Diagnostic(
            code="E401",
            message=f"the disk is full: nothing more can be written in {place}",
            help=f"free space there, or set {HOME} to a folder on another disk; then the same command goes on",
        )
    reason = fault.strerror or str(fault)
    return Diagnostic(
        code="E401",
        message=f"cannot write in {place}: {reason[:1].lower()}{reason[1:]}",
        help=f"set {HOME} to a folder that you can write in",
    )
