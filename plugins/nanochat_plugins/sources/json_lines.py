"""The records of JSON lines, and what a record is: kept apart from the readers that need pyarrow, which takes 0.2 s.

In: lines of bytes, a field's name. Out: one `Record` for each line. InputError E303 where the field is not there, E304
where a line is no JSON object, at the line's place.
"""

import json
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from nanochat.errors import InputError, wrong_input

NULL, EMPTY, NOT_UTF8 = "null", "empty", "not UTF-8"


@attrs.frozen
class Record:
    """A document, or what was found in its place."""

    text: str | None
    fault: str = ""
    """null · empty · not UTF-8"""
    group: int = 0
    """The number of its row group, where the file has any."""


def json_lines(path: Path, stream: Iterable[bytes], column: str) -> Iterator[Record]:
    """The records of a .jsonl file, whose path is for messages."""
    for number, line in enumerate(stream, 1):
        line = line.removeprefix(BOM_UTF8) if number == 1 else line
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            found = json.loads(line.decode())
        except UnicodeDecodeError:
            yield Record(None, NOT_UTF8)
            continue
        except (ValueError, RecursionError) as fault:
            raise damaged(where, f"no JSON ({fault})") from fault
        if not isinstance(found, dict):
            raise damaged(where, f"a JSON object is wanted, this is {type(found).__name__}")
        if column not in found:
            raise no_column(where, column, "fields", list(found))
        value = found[column]
        if value is not None and not isinstance(value, str):
            raise wrong_input("E303", f"{where}: field `{column}` holds {type(value).__name__}, not text")
        yield record(value)


def record(value: str | bytes | None, group: int = 0) -> Record:
    """A value as a document, or why it is none."""
    if value is None:
        return Record(None, NULL, group)
    try:
        if isinstance(value, bytes):
            value = value.decode()
        else:
            value.encode()  # JSON can spell half a surrogate pair
    except UnicodeError:
        return Record(None, NOT_UTF8, group)
    return Record(value, "", group) if value.strip() else Record(None, EMPTY, group)


def damaged(where: Path | str, reason: str) -> InputError:
    """A file or a line that is not what its name says."""
    return wrong_input("E304", f"{where} cannot be read: {reason}", help="mend it, or take it out of the `path`")


def no_column(where: str, column: str, what: str, names: list[str]) -> InputError:
    """What is not there, and what is."""
    shown = ", ".join(f"`{name}`" for name in names) or "none"
    return wrong_input("E303", f"{where} has no `{column}`; its {what}: {shown}", help="set `column` to one of them")
