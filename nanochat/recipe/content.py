"""What a path leads to, as a fingerprint: for configs that hold paths and say nothing themselves of what stands there.

In: a file or folder. Out: one sha256, the same wherever it is moved to. A config with large files offers a
`fingerprint()` of its own, which may remember digests.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nanochat.errors import wrong_input


def content_digest(place: Path) -> str:
    """The digest of a file's bytes, or of the names and bytes of all files in a folder. InputError E301, E304.

    Weights beside a MANIFEST.json are not read: the manifest holds their digests.
    """
    try:
        if not place.exists():
            raise wrong_input("E301", f"there is nothing at {place}")
        files = sorted(file for file in place.rglob("*") if _counts(file)) if place.is_dir() else [place]
        digest = hashlib.sha256()
        for file in files:
            with file.open("rb") as content:
                found = hashlib.file_digest(content, "sha256").hexdigest()
            name = file.relative_to(place).as_posix() if place.is_dir() else ""
            digest.update(f"{name}\0{found}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
    except (OSError, ValueError) as fault:
        raise wrong_input("E304", f"{place} cannot be read: {fault}") from fault


def _counts(file: Path) -> bool:
    return file.is_file() and not (file.suffix == ".safetensors" and (file.parent / "MANIFEST.json").is_file())


def paths_in(value: Any) -> Iterator[Path]:
    """Every path in a value."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from paths_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from paths_in(item)
