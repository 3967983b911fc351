"""JSON on disk that survives a crash: a file is its old content or its new one, a log grows by whole lines.

In: plain data and a path. Out: files. Not here: what the files mean.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nanochat.durable import replace_content


def canonical(value: Any) -> str:
    """The one text that equal plain data has: sorted keys, no spaces. What keys are hashed from."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file durably."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a file's content so that a crash at any moment leaves the old or the new one, whole."""
    replace_content(path, text.encode("utf-8", "surrogateescape"))


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None where there is none, or the file is torn."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Append one object as a line, in a single write: several processes may append to one file."""
    line = json.dumps(value, ensure_ascii=False, default=str) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode("utf-8", "surrogateescape"))
    finally:
        os.close(descriptor)


def read_lines(path: Path, *, start: int = 0, end: int | None = None) -> Iterator[dict[str, Any]]:
    """The objects of a file of lines, from one byte to another; a torn or foreign line is passed over."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            content = file.read() if end is None else file.read(end - start)
    except OSError:
        return
    for line in content.splitlines():
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            yield found
