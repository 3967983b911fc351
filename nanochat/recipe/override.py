"""`--set KEY=VALUE` arguments as a tree of their own, to be merged over the recipe.

In: the arguments as typed. Out: a tree whose leaves say which argument set them. The right side is TOML; a bare word
is a string: `--set stages.base.tokenizer=stage:tok`. A bad argument is a problem (E109), the others are taken.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from nanochat.errors import Diagnostic, InputError, Location
from nanochat.recipe.integers import check_integers
from nanochat.recipe.locator import Mark
from nanochat.recipe.notation import key_text, value_text
from nanochat.recipe.problems import Problems
from nanochat.recipe.source import parse_key
from nanochat.recipe.syntax import parse
from nanochat.recipe.tree import Table, build_tree, merge

_BARE_WORD = re.compile(r"[A-Za-z_./~*][^\s\"'\[\]{},=#]*\Z")
_FILE_ONLY = ("format", "extends", "unset", "lock")
QUOTES = "\"'"
EXAMPLE = "--set stages.base.model.depth=12"


def parse_overrides(arguments: Sequence[str], problems: Problems, *, base: Path) -> Table:
    """The tree of all good arguments, later ones over earlier. Relative paths in them start from `base`."""
    tree = Table(items={}, location=None, base=base)
    for number, argument in enumerate(arguments, start=1):
        try:
            tree = merge(tree, check_integers(_parse(argument, f"--set {number}", base), problems))
        except InputError as fault:
            problems.add_all(fault, at=None)
    return tree


def _parse(argument: str, name: str, base: Path) -> Table:
    text = _as_toml(argument, name)
    try:
        values = parse(text, name)
    except InputError as fault:
        raise InputError([_of_argument(found) for found in fault.diagnostics]) from None
    path = _single_path(values)
    first = path[0]
    if first in _FILE_ONLY:
        raise _bad(argument, name, f"`{first}` belongs to a file and cannot be set", width=len(first))
    shift = len(text) - len(argument)  # the quotes that were put around a bare word

    def place(mark: Mark) -> Location:
        return Location(path=name, line=0, column=mark.column, width=max(1, mark.width - shift), text=argument)

    return build_tree(values, text, place, base=base, written="set")


def _of_argument(found: Diagnostic) -> Diagnostic:
    """A diagnostic of the argument's text, which is no line of a file."""
    place = found.location
    return attrs.evolve(found, location=attrs.evolve(place, line=0)) if place is not None else found


def _as_toml(argument: str, name: str) -> str:
    """The argument as a line of TOML; E109 where it is none."""
    if not argument.isprintable() and not argument.replace("\t", "").isprintable():
        raise _bad(argument, name, "an argument is one line of readable text: KEY=VALUE")
    try:
        values: Mapping[str, Any] = tomllib.loads(argument)
    except (ValueError, RecursionError):
        values = {}
    if values and not argument.lstrip().startswith("["):
        return argument
    key, equals, right = argument.partition("=")
    if not equals:
        raise _bad(argument, name, "there is no `=` in it", width=len(argument), help=f"write it like {EXAMPLE}")
    path = parse_key(key)
    if path is None:
        raise _bad(argument, name, f"{value_text(key)} is no key", width=len(key), help=f"write it like {EXAMPLE}")
    blanks = len(right) - len(right.lstrip())
    if not _BARE_WORD.match(right.strip()):
        written = key_text(path)
        raise _bad(
            argument,
            name,
            f"the right side of {written} is {'no TOML value' if right.strip() else 'empty'}",
            column=len(key) + 2 + blanks,
            width=len(right.strip()),
            help=_remedy(written, right.strip()),
        )
    return f"{key}={right[:blanks]}'{right.strip()}'"


def _remedy(key: str, right: str) -> str:
    """How the right side would be written."""
    if right.startswith(("[", "{")):
        return f'strings in it take quotes, and the whole argument too: --set \'{key}=["a", "b"]\''
    return f"a string that is more than one word takes quotes: --set '{key}=\"{right.strip(QUOTES) or '…'}\"'"


def _single_path(values: Mapping[str, Any]) -> tuple[str, ...]:
    path: list[str] = []
    node: Any = values
    while isinstance(node, dict) and len(node) == 1:
        (name, node), *_ = node.items()
        path.append(name)
    return tuple(path)


def _bad(argument: str, name: str, message: str, *, column: int = 1, width: int = 1, help: str = "") -> InputError:
    place = Location(path=name, line=0, column=column, width=max(1, width), text=argument)
    return InputError(Diagnostic(code="E109", message=message, location=place, help=help))
