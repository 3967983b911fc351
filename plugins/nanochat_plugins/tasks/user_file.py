"""A file of the user's own that a task reads whole: its content, and the digest that stands for it in a fingerprint.

In: a path. Out: bytes. InputError E301 where there is no file, E304 where it cannot be read. Not here: what it means.
"""

import hashlib
from pathlib import Path

from nanochat.errors import wrong_input


def content(path: Path) -> bytes:
    """All of the file."""
    try:
        return path.read_bytes()
    except FileNotFoundError as fault:
        raise wrong_input("E301", f"there is no file {path}", help="a path is relative to the recipe's file") from fault
    except OSError as fault:
        raise wrong_input("E304", f"{path} cannot be read: {fault.strerror}", help="check its permissions") from fault


def digest(path: Path) -> str:
    """sha256 of the content, in hex."""
    return hashlib.sha256(content(path)).hexdigest()
