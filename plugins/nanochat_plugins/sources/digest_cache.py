"""sha256 digests of files, remembered by path and by what the system tells, so that planning reads no file twice.

In: a path. Out: its digest. Size and modification time alone would not do: tools that copy put the time back (cp -p,
rsync -t); the time of the last change of status and the inode cannot be put back. What is remembered lies below the
data folder; where that cannot be written, nothing is.
"""

import contextlib
import hashlib
import json
from pathlib import Path

import attrs

from nanochat.durable import replace_content
from nanochat.home import data_dir
from nanochat.running.json_file import read_json


@attrs.frozen(kw_only=True)
class Stamp:
    """What the system tells of a file; other content has another."""

    size: int
    inode: int
    mtime_ns: int
    ctime_ns: int


def stamp_of(path: Path) -> Stamp:
    """OSError where there is no such file."""
    status = path.stat()
    return Stamp(size=status.st_size, inode=status.st_ino, mtime_ns=status.st_mtime_ns, ctime_ns=status.st_ctime_ns)


def file_digest(path: Path) -> str:
    """The sha256 of a file's content. OSError where it cannot be read."""
    where = str(path.absolute())
    facts = {"path": where, **attrs.asdict(stamp_of(path))}
    name = hashlib.sha256(where.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    place = data_dir() / "digests" / f"{name}.json"
    known = read_json(place)
    if known is not None and all(known.get(key) == value for key, value in facts.items()):
        return str(known["sha256"])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        replace_content(place, json.dumps({**facts, "sha256": digest}).encode("utf-8", "surrogateescape"))
    return digest
