"""Where every key and value of a TOML text stands: the positions that tomllib does not give.

In: text that tomllib has accepted. Out: key path → span, list items by index. A walker of its own beside tomllib: it
decides no values and reports no errors, so it may be lenient, and stays linear in the length of the text.
"""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping

import attrs

TextPath = tuple[str | int, ...]
"""("stages", "base", "data", "web", "weight"), ("extends", 0)"""


@attrs.frozen
class Mark:
    """A stretch of the text. Line and column count from 1 in characters; width ends with the line."""

    line: int
    column: int
    width: int
    start: int
    """Offset of its first character."""
    end: int


@attrs.frozen
class Span:
    """Where one key path stands: its key (list items have none) and its value (tables opened by a header have none)."""

    key: Mark | None
    value: Mark | None


_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"\d{4}-\d\d-\d\d \d[^\s,\]}#]*|[^\s,\]}#]+")
"""A number, a boolean or a date; a date and its time may be joined by a space."""
_STRING = re.compile(
    r'"""(?:[^"\\]++|\\.|"{1,2}(?!"))*"{3,5}'
    r"|'''(?:[^']++|'{1,2}(?!'))*'{3,5}"
    r'|"(?:[^"\\\n]++|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)


def locate(text: str) -> Mapping[TextPath, Span]:
    """The span of every key path of a valid TOML text. A table that several headers open has its own header's place."""
    walker = _Walker(text)
    walker.document()
    return walker.spans


class _Walker:
    """One pass over a text: a position, the spans found so far, and how many items each array of tables has."""

    def __init__(self, text: str) -> None:
        self.text, self.position = text, 0
        self.spans: dict[TextPath, Span] = {}
        self.items: dict[TextPath, int] = {}
        self.starts = [0, *(found.end() for found in re.finditer("\n", text))]

    def document(self) -> None:
        """Headers and key-value lines until the end."""
        table: TextPath = ()
        self.skip(_BLANK)
        while self.position < len(self.text):
            if self.text[self.position] == "[":
                table = self.header()
            else:
                self.assignment(table)
            self.skip(_BLANK)

    def header(self) -> TextPath:
        """`[a.b]` or `[[a.b]]`; the path of the table that it opens."""
        double = self.text.startswith("[[", self.position)
        self.position += 2 if double else 1
        parts = self.key()
        self.position += 2 if double else 1
        path: TextPath = ()
        for number, (name, mark) in enumerate(parts):
            path = (*path, name)
            last = number == len(parts) - 1
            if last and double:
                self.spans.setdefault(path, Span(mark, None))
                self.items[path] = self.items.get(path, 0) + 1
            elif last:
                self.spans[path] = Span(mark, None)
            else:
                self.spans.setdefault(path, Span(mark, None))
            if path in self.items:
                path = (*path, self.items[path] - 1)
                self.spans.setdefault(path, Span(mark, None))
        return path

    def assignment(self, table: TextPath) -> None:
        """`a.b = value`, in a table or in an inline table."""
        parts = self.key()
        self.position += 1  # the equals sign
        self.skip(_SPACE)
        path = table
        for name, mark in parts[:-1]:
            path = (*path, name)
            self.spans.setdefault(path, Span(mark, None))
        name, mark = parts[-1]
        path = (*path, name)
        self.spans[path] = Span(mark, self.value(path))

    def key(self) -> list[tuple[str, Mark]]:
        """A dotted key: each part with its mark. Ends behind the blanks that follow it."""
        parts = []
        while True:
            self.skip(_SPACE)
            start = self.position
            if self.text[start] in "\"'":
                self.skip(_STRING)
                name = _unquote(self.text[start : self.position])
            else:
                self.skip(_BARE_KEY)
                name = self.text[start : self.position]
            assert self.position > start, f"no key at offset {start}"
            parts.append((name, self.mark(start)))
            self.skip(_SPACE)
            if self.text[self.position] != ".":
                return parts
            self.position += 1

    def value(self, path: TextPath) -> Mark:
        """Any value; what lies in arrays and inline tables is recorded below `path`."""
        start = self.position
        first = self.text[start]
        if first in "\"'":
            self.skip(_STRING)
        elif first == "[":
            self.array(path)
        elif first == "{":
            self.inline_table(path)
        else:
            self.skip(_SCALAR)
        assert self.position > start, f"no value at offset {start}"
        return self.mark(start)

    def array(self, path: TextPath) -> None:
        self.position += 1
        index = 0
        while not self.closes("]"):
            item = (*path, index)
            self.spans[item] = Span(None, self.value(item))
            index += 1

    def inline_table(self, path: TextPath) -> None:
        self.position += 1
        while not self.closes("}"):
            self.assignment(path)

    def closes(self, bracket: str) -> bool:
        """Skip blanks and a comma; whether the bracket follows, and step over it."""
        self.skip(_BLANK)
        if self.text[self.position] == ",":
            self.position += 1
            self.skip(_BLANK)
        if self.text[self.position] != bracket:
            return False
        self.position += 1
        return True

    def skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self.text, self.position)
        if found:
            self.position = found.end()

    def mark(self, start: int) -> Mark:
        """The stretch from `start` to where the walker stands."""
        row = bisect_right(self.starts, start) - 1
        line_end = self.starts[row + 1] - 1 if row + 1 < len(self.starts) else len(self.text)
        width = max(1, min(self.position, line_end) - start)
        return Mark(row + 1, start - self.starts[row] + 1, width, start, self.position)


def _unquote(quoted: str) -> str:
    if quoted[0] == '"' and "\\" in quoted:
        return str(tomllib.loads(f"x = {quoted}")["x"])
    return quoted[1:-1]
