"""A recipe file's bytes, read and parsed, with every refusal that a file can earn before its keys are looked at.

In: a path. Out: text, values and a place for every mark. Refused: what is missing, no regular file, larger than 1
MiB, not UTF-8, not TOML, nested too deep, integers beyond 64 bits.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from nanochat.errors import Diagnostic, InputError, Location, wrong_input
from nanochat.recipe.locator import Mark
from nanochat.recipe.syntax import parse

LARGEST_BYTES = 2**20


@attrs.frozen(kw_only=True)
class Text:
    """A parsed text."""

    name: str
    """How diagnostics call it: the file's path as a person would type it."""
    text: str
    values: dict[str, Any]
    content: bytes = b""

    def place(self) -> Callable[[Mark], Location]:
        """A function from marks to locations in this text."""
        lines = self.text.split("\n")

        def located(mark: Mark) -> Location:
            line = lines[mark.line - 1].removesuffix("\r")
            return Location(path=self.name, line=mark.line, column=mark.column, width=mark.width, text=line)

        return located


def read_text(path: Path, *, asked: Location | None = None) -> Text:
    """Read and parse a recipe file. `asked` is the place that names it, where it is a parent."""
    check_readable(path)
    name = display(path)
    content = _read(path, name, asked)
    try:
        # tomllib knows no byte order mark; editors write it.
        text = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        raise wrong_input(
            "E101", f"{name} is not UTF-8: line {line} holds the byte 0x{content[fault.start]:02x}"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise wrong_input("E101", f"{name} is no text: line {line} holds a NUL byte")
    return Text(name=name, text=text, values=parse(text, name), content=content)


def check_readable(place: Path) -> None:
    """E101 for a place whose name is no text: relative paths start there, and locks and records are UTF-8."""
    if _escaped(str(place)) != str(place):
        raise wrong_input("E101", f"{_escaped(str(place))} is not UTF-8", help="rename the file or its folder")


def _escaped(name: str) -> str:
    return name.encode(errors="backslashreplace").decode()


def _read(path: Path, name: str, asked: Location | None) -> bytes:
    code = "E107" if asked else "E101"

    def refused(message: str, help: str = "") -> InputError:
        return InputError(Diagnostic(code=code, message=message, location=asked, help=help))

    try:
        if not path.exists():
            raise refused(f"there is no file {name}", _nearby(path))
        if not path.is_file():
            raise refused(f"{name} is {'a folder' if path.is_dir() else 'no regular file'}, not a recipe")
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except (OSError, ValueError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)
        raise refused(f"{name} cannot be read: {reason}") from None
    if len(content) > LARGEST_BYTES:
        raise refused(f"{name} is larger than 1 MiB, too large for a recipe")
    return content


def _nearby(path: Path) -> str:
    try:
        found = sorted(_escaped(p.name) for p in path.parent.glob("*.toml"))[:8]
    except OSError:
        found = []
    return f"in {display(path.parent)}: {', '.join(found)}" if found else ""


def display(path: Path) -> str:
    """A path as a person would type it: relative where it lies below the current folder."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
