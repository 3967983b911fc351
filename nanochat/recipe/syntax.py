"""A text that is not TOML, in words: every fault that stands on a line of its own, and what was said twice.

In: text. Out: tomllib's values, or an InputError E106 with a diagnostic for each fault. tomllib stops at the first one;
a line that is wrong by itself is left out and the rest is read again, so that several typing errors are shown at once.
"""

import ast
import re
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any

from nanochat.errors import Diagnostic, InputError, Location, wrong_input
from nanochat.recipe.locator import TextPath, locate
from nanochat.recipe.notation import key_text
from nanochat.recipe.tree import DEEPEST

MOST_FAULTS = 20
"""More wrong lines are not looked for: the text is something else than TOML."""
MOST_LINES = 5_000
"""Of a longer text only the first fault is told: each further one means reading it again."""
_LONG_KEY = re.compile(r"""(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){200}""")
"""tomllib needs time that grows with the square of a dotted key's length."""
_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_TWICE = re.compile(r"cannot (?:declare|mutate|overwrite|redefine)|twice", re.IGNORECASE)
_NAMED = re.compile(r"(?:declare|namespace) (\(.*\))")


def parse(text: str, name: str) -> dict[str, Any]:
    """The values of a text that diagnostics call `name`. InputError E106."""
    if _LONG_KEY.search(text):
        raise _too_deep(name)
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise _too_deep(name) from None
    except ValueError as fault:
        raise InputError(_faults(text, name, str(fault))) from None
    for value, depth in _walk(values):
        if depth > DEEPEST:
            raise _too_deep(name)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise wrong_input("E106", f"{name} holds an integer beyond 64 bits")
    return values


def _too_deep(name: str) -> InputError:
    return wrong_input("E106", f"{name} is nested too deep: at most {DEEPEST} levels are allowed")


def _walk(values: Any) -> Iterator[tuple[Any, int]]:
    """Every value with its depth; with a list of its own instead of recursion, so that no depth can overflow it."""
    waiting = [(values, 0)]
    while waiting:
        value, depth = waiting.pop()
        yield value, depth
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        waiting.extend((item, depth + 1) for item in inner)


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
    if found is None:
        return None
    row = int(found[1]) if found[1] else len(lines) - (len(lines) > 1 and not lines[-1])
    column = int(found[2]) if found[2] else len(lines[row - 1]) + 1
    said = _POSITION.sub("", message)
    if said.startswith("Expected") and len(lines) <= MOST_LINES:
        # A string that its line does not close is noticed only where the text ends.
        for number, line in enumerate(lines[:row], start=1):
            alone = _alone(line)
            if alone is not None and _POSITION.sub("", alone) == said:
                return Location(path=name, line=number, column=len(line) + 1, text=line)
    return Location(path=name, line=row, column=column, text=lines[row - 1])


def _diagnostic(lines: Sequence[str], name: str, message: str, place: Location | None) -> Diagnostic:
    said = _POSITION.sub("", message)
    if place is not None and _TWICE.search(said):
        twice = _said_twice(lines, name, said, place)
        if twice is not None:
            return twice
    return Diagnostic(code="E106", message=f"{name} is not TOML: {said[:1].lower()}{said[1:]}", location=place)


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
