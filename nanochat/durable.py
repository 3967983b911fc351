"""Files that must be whole and on the disk: their digests, and the sync that puts them there."""

import hashlib
import os
from pathlib import Path


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
