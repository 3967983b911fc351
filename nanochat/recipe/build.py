"""One config object out of its resolved values, with the check that needs all of them: whether they fit together.

In: values by field. Out: the frozen config. What a plugin's class raises is reported under its name, never passed on.
"""

from collections.abc import Mapping
from typing import Any

from nanochat.errors import Location, NanochatError
from nanochat.recipe.draft import Cell, Draft, Field, Link, Part
from nanochat.recipe.notation import key_text
from nanochat.recipe.problems import Problems

_SHOWN_REASON = 300


def build_config(draft: Draft, values: Mapping[str, Any], problems: Problems) -> Any:
    """The config object; `draft.failed` where its class or its `problems()` refuse the values."""
    where = key_text(draft.path) or "the recipe"
    try:
        built = draft.cls(**values)
        check = getattr(built, "problems", None)
        found = list(check()) if callable(check) else []
    except NanochatError as fault:
        for diagnostic in fault.diagnostics:
            _refuse(draft, problems, diagnostic.code, diagnostic.message, at=diagnostic.location, help=diagnostic.help)
        return None
    except (ValueError, TypeError, ArithmeticError) as fault:
        _refuse(draft, problems, "E115", f"{where}: {_reason(fault)}")
        return None
    except Exception as fault:
        _refuse(draft, problems, "E202", f"{where}: the config class failed: {type(fault).__name__}: {_reason(fault)}")
        return None
    for problem in found:
        match problem:
            case (str() as keys, message):
                pass
            case message:
                keys = ""
        places = [place for key in keys.split() if (place := _place(draft.fields.get(key))) is not None]
        _refuse(draft, problems, "E115", f"{where}: {message}", at=places[0] if places else None)
    return built


def _place(field: Field) -> Location | None:
    """Where a key is written; None where it is not, or is a table of named tables."""
    if isinstance(field, Cell | Link):
        return field.leaf.place if field.leaf is not None else None
    return field.location if isinstance(field, Draft | Part) else None


def _refuse(
    draft: Draft, problems: Problems, code: str, message: str, *, at: Location | None = None, help: str = ""
) -> None:
    draft.failed = True
    subject = message.partition(": ")[2] or message
    problems.add(code, message, at=at or draft.location, subject=subject, help=help)


def _reason(fault: Exception) -> str:
    text = str(fault) or type(fault).__name__
    return text if len(text) <= _SHOWN_REASON else text[:_SHOWN_REASON] + "…"
