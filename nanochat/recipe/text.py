"""A recipe file's bytes, read and parsed, with every refusal that a file can earn before its keys are looked at.

In: a path. Out: text, values and a place for every mark. Refused: what is missing, no regular file, larger than 1
MiB, not UTF-8, not TOML, nested too deep, integers beyond 64 bits.
"""

import codecs
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from nanochat.errors import Diagnostic, InputError, Location, close_names, suggestion_of, wrong_input
from nanochat.recipe.locator import Mark
from nanochat.recipe.syntax import parse

LARGEST_BYTES = 2**20
_SHOWN_BYTES = 400


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
        message = f"{name} is not UTF-8: line {{line}} holds the byte 0x{content[fault.start]:02x}"
        raise _no_text(name, content, fault.start, message) from None
    if "\0" in text:
        message = f"{name} is no text: line {{line}} holds a NUL byte"
        raise _no_text(name, content, content.index(b"\0"), message)
    return Text(name=name, text=text, values=parse(text, name), content=content)


def _no_text(name: str, content: bytes, start: int, message: str) -> InputError:
    """E101 at the byte that is no text. `message` says `{line}` where the line's number goes."""
    line_start = content.rfind(b"\n", 0, start) + 1
    line = content.count(b"\n", 0, start) + 1
    before = content[line_start:start].decode("utf-8", "replace").removeprefix("\ufeff" if line == 1 else "")
    shown = content[start:].split(b"\n", 1)[0][:_SHOWN_BYTES].decode("utf-8", "replace").removesuffix("\r")
    wide = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in content[:4]
    place = Location(path=name, line=line, column=len(before) + 1, text=before + shown)
    remedy = "save it as UTF-8" + (": it looks like UTF-16" if wide else "")
    return InputError(Diagnostic(code="E101", message=message.format(line=line), location=place, help=remedy))


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
            raise refused(f"there is no file {name}", near_recipes(path) or _nearby(path))
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


def near_recipes(path: Path) -> str:
    """«did you mean `recipes/quickstart.toml`?» of the recipes here, in recipes/ and beside the path; or nothing.

    Names are compared without their folder and `.toml`, which all have alike.
    """
    names: dict[str, list[str]] = {}
    for folder in (path.parent, Path(), Path("recipes")):
        for name in _recipes_in(folder):
            names.setdefault(name.removesuffix(".toml"), []).append(display(folder / name))
    close = close_names(_escaped(path.name).removesuffix(".toml"), names)
    return suggestion_of(list(dict.fromkeys(shown for name in close for shown in names[name]))[:3])


def _recipes_in(folder: Path) -> list[str]:
    try:
        return sorted(_escaped(p.name) for p in folder.glob("*.toml"))
    except (OSError, ValueError):
        return []


def _nearby(path: Path) -> str:
    found = _recipes_in(path.parent)[:8]
    return f"in {display(path.parent)}: {', '.join(found)}" if found else ""


def display(path: Path) -> str:
    """A path as a person would type it: relative where it lies below the current folder."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
