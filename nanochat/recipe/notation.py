"""How keys and values are written in TOML, on one line: for messages, for `show` and for comparing.

In: plain values as tomllib gives them. Out: text. Not here: whole documents (tomli-w writes those) and positions.
"""

import datetime
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")
_DIGEST = re.compile(r"[0-9a-f]{32,64}")
LONGEST_NAME = 64
SHOWN_CHARACTERS = 60
"""A longer value is cut in messages."""


def is_bare(name: str) -> bool:
    """Whether a key needs no quotes."""
    return _BARE.match(name) is not None


def is_name(text: str) -> bool:
    """Whether a text can be the name of something that is called by it on the command line, or is a folder."""
    return is_bare(text) and len(text) <= LONGEST_NAME and not text.startswith("-")


def key_text(path: Iterable[str]) -> str:
    """A key path as TOML writes it: stages.base."odd name"."""
    return ".".join(name if is_bare(name) else _quoted(name) for name in path)


def fact_text(value: Any) -> str:
    """A fact about data as a person reads it: of a file its size and the beginning of its digest."""
    match value:
        case None:
            return "nothing"
        case [int(size), str(digest)] if _DIGEST.fullmatch(digest):
            return f"{size:,} bytes {digest[:8]}"
        case str() if _DIGEST.fullmatch(value):
            return value[:8]
    text = value_text(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def value_text(value: Any) -> str:
    """A value as TOML writes it on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key_text([str(name)])} = {value_text(item)}" for name, item in value.items())
        return "{" + inner + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(value_text(item) for item in value) + "]"
    if isinstance(value, Path):
        return _quoted(str(value))
    return repr(value) if isinstance(value, int | float) else str(value)


def shown(value: Any) -> str:
    """A value in a message: cut when it is long."""
    text = value_text(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def shown_key(name: str) -> str:
    """A key's name in a message."""
    text = key_text([name])
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def described(value: Any) -> str:
    """A value with its type, as a message says what was found: the string "4"."""
    for kind, name in _NAMES:
        if isinstance(value, kind):
            return name if kind is dict else f"{name} {shown(value)}"
    return shown(value)


_NAMES: tuple[tuple[type, str], ...] = (
    (bool, "the boolean"),
    (int, "the integer"),
    (float, "the float"),
    (str, "the string"),
    (list, "the array"),
    (dict, "a table"),
    (datetime.datetime, "the date"),
    (datetime.date, "the date"),
    (datetime.time, "the time"),
)


def article(noun: str) -> str:
    """A noun with its article: a task, an optimizer."""
    return f"an {noun}" if noun[:1] in "aeiou" else f"a {noun}"


def plain(value: Any) -> Any:
    """A checked value as TOML has it: paths as strings, tuples as arrays."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items() if item is not None}
    return value


def _quoted(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
