"""A file that a person names to a command, as text or as JSON.

In: a path. Out: what stands there, or one error that names the file, says what is wrong with it and what to do. Not
here: recipes, whose errors show the line (`nanochat.recipe.text`), and files that a program of ours wrote for itself.
"""

import json
import os
from pathlib import Path
from typing import Any

from nanochat.durable import replace_content
from nanochat.errors import InputError, wrong_input


def given_text(path: Path, *, help: str) -> str:
    """A file's text, UTF-8, with or without a byte order mark. InputError E304 where it cannot be read as that."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as fault:
        raise unusable(path, "read", fault, help=help) from fault


def given_json(path: Path, *, help: str) -> Any:
    """What a file of JSON holds. InputError E304 for any other."""
    try:
        return json.loads(given_text(path, help=help))
    except (ValueError, RecursionError) as fault:
        reason = "it is nested too deeply" if isinstance(fault, RecursionError) else str(fault)
        raise wrong_input("E304", f"{path} is no JSON: {reason}", help=help) from fault


def write_given(path: Path, text: str, *, help: str) -> None:
    """Write a file's text, as UTF-8. InputError E304 where it cannot be written; an old file then stays as it was."""
    try:
        content = text.encode()
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():
            target.write_bytes(content)  # a device or a pipe, whose name must not become a file's
        else:
            replace_content(target, content)
    except (OSError, ValueError) as fault:
        raise unusable(path, "written", fault, help=help) from fault


def unusable(path: Path, how: str, fault: OSError | ValueError, *, help: str) -> InputError:
    """The error of a file that cannot be read, or written."""
    if isinstance(fault, UnicodeDecodeError):
        reason = f"it is no UTF-8 text (byte {fault.start:,} is 0x{fault.object[fault.start]:02x})"
    else:
        reason = (fault.strerror if isinstance(fault, OSError) else None) or str(fault)
    return wrong_input("E304", f"{path} cannot be {how}: {reason}", help=help)
