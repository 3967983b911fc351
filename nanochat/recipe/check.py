"""One value against its field: the type, the range, the choices.

In: a value as written. Out: the value as the config holds it, or a problem and Failed.
"""

import datetime
import math
from typing import Any

from nanochat.config import Rules
from nanochat.recipe.draft import Cell
from nanochat.recipe.notation import LONGEST_NAME, described, is_name, key_text, shown, value_text
from nanochat.recipe.problems import Problems
from nanochat.recipe.strict import Mismatch, UnknownType, anchored, structure, type_text
from nanochat.recipe.tree import Leaf


class Failed(Exception):
    """What was asked for depends on something that was reported."""


def checked(cell: Cell, value: Any, leaf: Leaf, problems: Problems) -> Any:
    """The value of an option as its config holds it: paths absolute, integers as floats where these are wanted."""
    name, subject = key_text(cell.path), cell.path[-1]
    try:
        found = structure(value, cell.kind)
    except Mismatch as fault:
        auto = ' or "auto"' if cell.rules.derive else ""
        wrong = _found_at(value, fault.path)
        verb = f"holds {described(wrong)}: it is" if fault.path else f"is {described(value)}, not"
        message = f"{name} {verb} {type_text(cell.kind)}{auto}"
        problems.add("E103", message, at=leaf.place_of(fault.path), subject=subject, label=_hint(value, cell.kind))
        raise Failed from None
    except UnknownType as fault:
        message = f"{name} is declared as {fault}, which no recipe can give"
        problems.add("E202", message, at=leaf.place, subject=subject)
        raise Failed from None
    out_of_range = range_fault(found, cell.rules)
    if out_of_range:
        label = problems.suggestion(value, cell.rules.choices) if isinstance(value, str) else ""
        message = f"{name} is {shown(value)}, but {out_of_range}"
        problems.add("E104", message, at=leaf.place_of(_out_of_range(found, cell.rules)), subject=subject, label=label)
        raise Failed
    try:
        return anchored(found, leaf.base)
    except RuntimeError as fault:  # no home folder for ~
        problems.add("E104", f"{name}: {fault}", at=leaf.place, subject=subject)
        raise Failed from None


def _found_at(value: Any, path: tuple[str | int, ...]) -> Any:
    for name in path:
        value = value[name]
    return value


def _out_of_range(value: Any, rules: Rules) -> tuple[int, ...]:
    """The index of the item of an array that is out of range; nothing where it is the value itself."""
    items = enumerate(value) if isinstance(value, list | tuple) else ()
    return next(((index,) for index, item in items if range_fault(item, rules)), ())


def range_fault(value: Any, rules: Rules) -> str:
    """What is wrong with a value of the right type, or nothing. Items of an array are looked at one by one."""
    if isinstance(value, list | tuple):
        return next((fault for item in value if (fault := range_fault(item, rules))), "")
    if isinstance(value, float) and rules.finite and not math.isfinite(value):
        return "it must be finite"
    if rules.choices and value is not None and value not in rules.choices:
        return f"it is one of {', '.join(value_text(choice) for choice in rules.choices)}"
    if rules.name and isinstance(value, str) and not is_name(value):
        return f"it is a name: letters, digits, `_` and `-`, at most {LONGEST_NAME}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        # Written so that nan, which compares with nothing, is out of any range.
        if rules.minimum is not None and not value >= rules.minimum:
            return f"it is at least {value_text(rules.minimum)}"
        if rules.maximum is not None and not value <= rules.maximum:
            return f"it is at most {value_text(rules.maximum)}"
    return ""


def _hint(value: Any, kind: Any) -> str:
    """How the value would be written right, where that is clear."""
    if isinstance(value, str) and kind in (int, float, bool):
        try:
            structure(_unquoted(value), kind)
        except (Mismatch, ValueError):
            return ""
        return f"without the quotes: {value}"
    if isinstance(value, float) and kind is int and value.is_integer():
        return f"did you mean {int(value)}?"
    if isinstance(value, datetime.date | datetime.time) and _fits(str(value), kind):
        return f'in quotes: "{value}"'
    if isinstance(value, datetime.time) and kind in (int, float):
        return f"in seconds: {(value.hour * 60 + value.minute) * 60 + value.second}"
    return ""


def _fits(value: Any, kind: Any) -> bool:
    try:
        structure(value, kind)
    except (Mismatch, UnknownType):
        return False
    return True


def _unquoted(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    return float(text) if any(c in text for c in ".eE") else int(text)
