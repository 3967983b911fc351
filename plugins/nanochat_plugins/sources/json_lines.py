"""The records of JSON lines, and what a record is: kept apart from the readers that need pyarrow, which takes 0.2 s.

In: lines of bytes, a field's name. Out: one `Record` for each line. InputError E303 where the field is not there, E304
where a line is no JSON object, at the line's place.
"""

import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import attrs

from nanochat.errors import InputError, wrong_input

BLOCK = 1 << 20
"""Bytes read at once, and between two places of a file at which reading may begin."""
NULL, EMPTY, NOT_UTF8 = "null", "empty", "not UTF-8"


@attrs.frozen
class Record:
    """A document, or what was found in its place."""

    text: str | None
    fault: str = ""
    """null · empty · not UTF-8"""
    place: int = 0
    """Where reading may begin to have it among the first: the number of its row group, or a byte of the file."""


def json_lines(
    path: Path, stream: Iterable[bytes], column: str, begin: int = 0, lines_before: Callable[[], int] = lambda: 0
) -> Iterator[Record]:
    """The records of a .jsonl file from byte `begin` on, which is 0 or a record's place.

    For messages: `path`, and the number of lines before, which is asked for only then.
    """
    place = end = begin
    for number, line in enumerate(stream, 1):
        line, size = line if end else line.removeprefix(BOM_UTF8), len(line)
        place = end if end - place >= BLOCK else place
        end += size
        if line.strip():
            yield _line(line, column, place, partial(_where, path, number, lines_before))


def _where(path: Path, number: int, lines_before: Callable[[], int]) -> str:
    return f"{path}:{lines_before() + number}"


def _line(line: bytes, column: str, place: int, where: Callable[[], str]) -> Record:
    """The record of a line that is not blank."""
    try:
        found = json.loads(line.decode())
    except UnicodeDecodeError:
        return Record(None, NOT_UTF8, place)
    except (ValueError, RecursionError) as fault:
        raise damaged(where(), f"no JSON ({fault})") from fault
    if not isinstance(found, dict):
        raise damaged(where(), f"a JSON object is wanted, this is {type(found).__name__}")
    if column not in found:
        raise no_column(where(), column, "fields", list(found))
    value = found[column]
    if value is not None and not isinstance(value, str):
        raise wrong_input("E303", f"{where()}: field `{column}` holds {type(value).__name__}, not text")
    return record(value, place)


def record(value: str | bytes | None, place: int = 0) -> Record:
    """A value as a document, or why it is none."""
    if value is None:
        return Record(None, NULL, place)
    try:
        if isinstance(value, bytes):
            value = value.decode()
        else:
            value.encode()  # JSON can spell half a surrogate pair
    except UnicodeError:
        return Record(None, NOT_UTF8, place)
    return Record(value, "", place) if value.strip() else Record(None, EMPTY, place)


def damaged(where: Path | str, reason: str) -> InputError:
    """A file or a line that is not what its name says."""
    return wrong_input("E304", f"{where} cannot be read: {reason}", help="mend it, or take it out of the `path`")


def no_column(where: str, column: str, what: str, names: list[str]) -> InputError:
    """What is not there, and what is."""
    shown = ", ".join(f"`{name}`" for name in names) or "none"
    return wrong_input("E303", f"{where} has no `{column}`; its {what}: {shown}", help="set `column` to one of them")
