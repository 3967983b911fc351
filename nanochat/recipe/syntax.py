"""A text that is not TOML, in words: every fault that stands on a line of its own, and what was said twice.

In: text. Out: tomllib's values, or an InputError E106 with a diagnostic for each fault. tomllib stops at the first one;
a line that is wrong by itself is left out and the rest is read again, so that several typing errors are shown at once.
"""

import ast
import re
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from nanochat.errors import Diagnostic, InputError, Location
from nanochat.recipe.locator import TextPath, locate
from nanochat.recipe.notation import key_text
from nanochat.recipe.toml_hint import foreign_key, hint
from nanochat.recipe.tree import DEEPEST

MOST_FAULTS = 20
"""More wrong lines are not looked for: the text is something else than TOML."""
MOST_LINES = 5_000
"""Of a longer text only the first fault is told: each further one means reading it again."""
_LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){200}""")
"""tomllib needs time that grows with the square of a dotted key's length."""
_TOKEN = re.compile(
    r'"""(?:[^"\\]++|\\.|"{1,2}(?!"))*+"{3,5}|\'\'\'(?:[^\']++|\'{1,2}(?!\'))*+\'{3,5}'
    r'|"""|\'\'\'|"(?:[^"\\\n]++|\\.)*+"|\'[^\'\n]*+\'|#[^\n]*+|[\[\]{}]',
    re.DOTALL,
)
"""Strings and comments, whose brackets mean nothing, and brackets; an opening quote whose string has no end."""
_LONG_NUMBER = re.compile(r"[+-]?\d[\d_]{4000,}+")
_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_OPEN = re.compile(r"^(?:Unclosed array|Unterminated string|Expected (?:\"'''\"|'\"\"\"'))")
"""tomllib noticed where the text went on, or ended, what was left open before."""
_ESCAPE = re.compile(r"^(?:Unescaped|Invalid hex value)")
_IN_WORDS = {
    "Illegal character '\\n'": "the string does not end in its line",
    "Unterminated string": "the string does not end in its line",
    "Invalid initial character for a key part": "a key, or a word of it, is missing here",
    "Unclosed array": "no comma stands between two items",
    "Unclosed inline table": "no comma stands between two keys",
    'Expected "\'"': "the string does not end in its line",
    "Expected newline or end of document after a statement": "more stands behind the value",
    "Invalid statement": "this is neither a key nor a [table]",
    "Invalid value": "this is no value",
    "Expected '=' after a key in a key/value pair": "there is no `=` behind the key",
}
"""What tomllib says, as a person who writes a recipe says it."""
_TWICE = re.compile(r"cannot (?:declare|mutate|overwrite|redefine)|twice", re.IGNORECASE)
_NAMED = re.compile(r"(?:declare|namespace) (\(.*\))")


def parse(text: str, name: str) -> dict[str, Any]:
    """The values of a text that diagnostics call `name`. InputError E106."""
    long_key = _LONG_KEY.search(text)
    if long_key:
        raise _too_deep(text, name, long_key.start())
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise _too_deep(text, name, _deep_bracket(text)) from None
    except ValueError as fault:
        raise InputError(_faults(text, name, str(fault))) from None
    if any(len(path) > DEEPEST for path in _paths(values)):
        raise _too_deep(text, name, _deep_bracket(text))
    return values


def _too_deep(text: str, name: str, start: int | None) -> InputError:
    """start: where the level stands that is one too many; without it, a key of too many words is looked for."""
    if start is None:
        keys = (span.key for path, span in locate(text).items() if len(path) > DEEPEST)
        start = next((key.start for key in keys if key is not None), 0)
    message = f"{name} is nested too deep: at most {DEEPEST} levels are allowed"
    return InputError(Diagnostic(code="E106", message=message, location=_at(text, name, start)))


def _deep_bracket(text: str) -> int | None:
    """The first bracket that opens more levels than are allowed."""
    return next((start for start, depth in _brackets(text) if len(depth) > DEEPEST), None)


def _brackets(text: str) -> Iterator[tuple[int, list[int]]]:
    """Every bracket of a text that is TOML so far, with the places of all that are then open."""
    opened: list[int] = []
    for found in _TOKEN.finditer(text):
        if found[0] in ("[", "{"):
            opened.append(found.start())
            yield found.start(), opened
        elif found[0] in ("]", "}") and opened:
            opened.pop()
            yield found.start(), opened


def _at(text: str, name: str, start: int, width: int = 1) -> Location:
    """The place of an offset in the text."""
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", start)
    line = text[line_start : line_end if line_end >= 0 else None].removesuffix("\r")
    row = text.count("\n", 0, start) + 1
    return Location(path=name, line=row, column=start - line_start + 1, width=width, text=line)


def _paths(values: Any) -> Iterator[TextPath]:
    """Every value's path; with a list of its own instead of recursion, so that no depth can overflow it."""
    waiting: list[tuple[TextPath, Any]] = [((), values)]
    while waiting:
        path, value = waiting.pop()
        yield path
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        if len(path) <= DEEPEST:
            waiting.extend(((*path, name), item) for name, item in inner)


def _faults(text: str, name: str, message: str) -> list[Diagnostic]:
    """What is wrong: the first fault, and those on lines behind it that are wrong by themselves."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    found: list[Diagnostic] = []
    while len(found) < MOST_FAULTS:
        place = _place(lines, name, message)
        found.append(_diagnostic(lines, name, message, place))
        at_end = place is not None and place.line >= len(lines) - 1  # most often what an earlier line left open
        if len(lines) > MOST_LINES or place is None or at_end or _alone(lines[place.line - 1]) is None:
            break
        lines[place.line - 1] = ""
        try:
            tomllib.loads("\n".join(lines))
        except (ValueError, RecursionError) as fault:
            message = str(fault)
        else:
            break
    return found


def _alone(line: str) -> str | None:
    """What tomllib says of a line that is wrong by itself; None where its place may make it right."""
    if '"""' in line or "'''" in line or line.count("[") != line.count("]"):
        return None
    try:
        tomllib.loads(line)
    except ValueError as fault:
        return str(fault)
    except RecursionError:
        pass
    return None


def _place(lines: Sequence[str], name: str, message: str) -> Location | None:
    found = _POSITION.search(message)
    text = "\n".join(lines)
    if found is None:  # tomllib tells no place of a number that has too many digits
        giant = _LONG_NUMBER.search(text)
        return _at(text, name, giant.start(), len(giant[0])) if giant else None
    if _OPEN.search(message):
        opener = _opener(text)
        if opener is not None:
            return _at(text, name, opener)
    row = int(found[1]) if found[1] else len(lines) - (len(lines) > 1 and not lines[-1])
    column = int(found[2]) if found[2] else len(lines[row - 1]) + 1
    said = _POSITION.sub("", message)
    if _ESCAPE.search(said):  # tomllib stops behind it
        column = lines[row - 1].rfind("\\", 0, column) + 1 or column
    if said.startswith("Expected") and len(lines) <= MOST_LINES:
        # A string that its line does not close is noticed only where the text ends.
        for number, line in enumerate(lines[:row], start=1):
            alone = _alone(line)
            if alone is not None and _POSITION.sub("", alone) == said:
                own = _POSITION.search(alone)
                column = int(own[2]) if own is not None and own[2] else len(line) + 1
                return Location(path=name, line=number, column=column, text=line)
    return Location(path=name, line=row, column=column, text=lines[row - 1])


def _opener(text: str) -> int | None:
    """The bracket or the three quotes that open what is not closed; None where it is no such thing."""
    opened: list[int] = []
    for found in _TOKEN.finditer(text):
        if found[0] in ('"""', "'''"):
            return found.start()
        if found[0] in ("[", "{"):
            line = text[text.rfind("\n", 0, found.start()) + 1 : found.start()]
            if opened and found[0] == "[" and not line.strip():  # a header: what is open was meant to end before
                follows = text[found.end() : found.end() + 1]
                if follows.isalpha():
                    return opened[-1]
            opened.append(found.start())
        elif found[0] in ("]", "}") and opened:
            opened.pop()
    return opened[-1] if opened else None


def _diagnostic(lines: Sequence[str], name: str, message: str, place: Location | None) -> Diagnostic:
    said = _POSITION.sub("", message)
    if place is not None and _TWICE.search(said):
        twice = _said_twice(lines, name, said, place)
        if twice is not None:
            return twice
    if _OPEN.search(message) and _opener("\n".join(lines)) is not None:
        return Diagnostic(code="E106", message=f"{name} is not TOML: what opens here is not closed", location=place)
    if said.startswith("Exceeds the limit"):
        return Diagnostic(code="E106", message=f"{name} holds an integer beyond 64 bits", location=place)
    foreign = foreign_key(place.text, place.column, said) if place is not None else None
    if place is not None and foreign is not None:
        column, word = foreign
        message = f"{name} is not TOML: a bare key is made of A–Z a–z 0–9 _ and -"
        at = attrs.evolve(place, column=column, width=len(word))
        return Diagnostic(code="E106", message=message, location=at, label=f'quote it: "{word}"')
    message = f"{name} is not TOML: {_IN_WORDS.get(said, said[:1].lower() + said[1:])}"
    remedy = hint(place.text, place.column, said) if place is not None else ""
    return Diagnostic(code="E106", message=message, location=place, help=remedy)


def _said_twice(lines: Sequence[str], name: str, said: str, place: Location) -> Diagnostic | None:
    """The second of two tables or values of one name, and where the first one is."""
    row = place.line
    try:
        before, with_it = locate("\n".join(lines[: row - 1])), locate("\n".join(lines[:row]))
    except (AssertionError, IndexError, ValueError):  # the walker was promised valid text
        return None
    named = _NAMED.search(said)
    if named:
        path: TextPath = ast.literal_eval(named[1])
    else:
        # The key of the last line, or the value that it would go into.
        path = next((key for key, span in with_it.items() if span.value is not None and span.value.line == row), ())
    while path and path not in before:
        path = path[:-1]
    first = before[path].key if path else None
    if first is None:
        return None
    words = [str(word) for word in path]
    what = f"[{key_text(words)}] is declared" if named else f"`{key_text(words)}` is set"
    line = lines[row - 1]
    column = len(line) - len(line.lstrip()) + 1
    at = Location(path=name, line=row, column=column, width=len(line[: line.find("=")].strip()), text=line)
    return Diagnostic(code="E106", message=f"{what} twice", location=at, label=f"the first is in line {first.line}")
