"""Files that must be whole and on the disk: their digests, the sync that puts them there, and folders that leave."""

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

FILE_MODE, FOLDER_MODE = 0o644, 0o755
"""Of what `write_synced` and `make_folder` make, whatever the process's umask."""
_PIECE = 2**24
"""Bytes written and hashed in turn: 16 MiB."""


def sha256(path: Path) -> str:
    """The sha256 of a file's content, in hex. OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder where it is missing, its name in the parent's on the disk."""
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(FOLDER_MODE)
        sync(path.parent)


def write_synced(path: Path, parts: Iterable[bytes | memoryview]) -> tuple[int, str]:
    """Write a file and wait until its content is on the disk. Returns its bytes and its sha256 in hex.

    The digest is of what was meant, not of what is read back. OSError with the path, of a full disk too.
    """
    n_bytes, digest = 0, hashlib.sha256()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            os.fchmod(descriptor, FILE_MODE)
            for part in parts:
                left = memoryview(part)
                while left:
                    done = file.write(left[:_PIECE])
                    digest.update(left[:done])
                    n_bytes, left = n_bytes + done, left[done:]
            os.fsync(descriptor)
    except OSError as fault:
        if fault.filename is None:  # a write does not know it
            raise OSError(fault.errno, fault.strerror, str(path)) from fault
        raise
    return n_bytes, digest.hexdigest()


def replace_content(path: Path, content: bytes) -> None:
    """Write a file so that at any moment, also after a crash, it holds its old content or the new one, whole.

    An old file's permissions stay. OSError, of a full disk too.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def delete(folder: Path) -> None:
    """Delete a folder, if there is one, and all in it. Of a link to one the link alone: the rest is its maker's."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
