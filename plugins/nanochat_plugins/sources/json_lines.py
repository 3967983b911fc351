"""The records of JSON lines, and what a record is: kept apart from the readers that need pyarrow, which takes 0.2 s.

In: lines of bytes, a field's name. Out: one `Record` for each line. A file's first record shows what it holds: where
that has no such text, InputError E303 or E304 names its line. A later one without it is passed over, as others are that
cannot be used; a line that is no JSON at all is damage, and E304.
"""

import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import attrs

from nanochat.errors import InputError, wrong_input

BLOCK = 1 << 20
"""Bytes read at once, and between two places of a file at which reading may begin."""
NULL, EMPTY, NOT_UTF8, NO_TEXT = "null", "empty", "not UTF-8", "no text"


@attrs.frozen
class Record:
    """A document, or what was found in its place."""

    text: str | None
    fault: str = ""
    """null · empty · not UTF-8 · no text (a number, say, or a line without the field)"""
    place: int = 0
    """Where reading may begin to have it among the first: the number of its row group, or a byte of the file."""


def json_lines(
    path: Path, stream: Iterable[bytes], column: str, begin: int = 0, lines_before: Callable[[], int] = lambda: 0
) -> Iterator[Record]:
    """The records of a .jsonl file from byte `begin` on, which is 0 or a record's place.

    For messages: `path`, and the number of lines before, which is asked for only then.
    """
    place = end = begin
    first = not begin
    for number, line in enumerate(stream, 1):
        line, size = line if end else line.removeprefix(BOM_UTF8), len(line)
        place = end if end - place >= BLOCK else place
        end += size
        if not line.strip():
            continue
        try:
            found = json.loads(line.decode())
        except UnicodeDecodeError:
            yield Record(None, NOT_UTF8, place)
            continue
        except (ValueError, RecursionError) as fault:
            raise damaged(f"{path}:{lines_before() + number}", f"no JSON ({fault})") from fault
        if first:
            _check_shape(f"{path}:{number}", found, column)
            first = False
        yield _record(found, column, place)


def _check_shape(where: str, found: object, column: str) -> None:
    """A file is of the shape of its first record. InputError E303, E304 where that is not the one that is wanted."""
    if not isinstance(found, dict):
        raise damaged(where, f"a JSON object is wanted, this is {type(found).__name__}")
    if column not in found:
        raise no_column(where, column, "fields", list(found))
    value = found[column]
    if value is not None and not isinstance(value, str):
        raise wrong_input("E303", f"{where}: field `{column}` holds {type(value).__name__}, not text")


def _record(found: object, column: str, place: int) -> Record:
    value = found.get(column, 0) if isinstance(found, dict) else 0
    return record(value, place) if value is None or isinstance(value, str) else Record(None, NO_TEXT, place)


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
