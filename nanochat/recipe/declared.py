"""The fields of a config class as the recipe sees them: key, type, rules, default.

In: an attrs class of the core or of a plugin. Out: its fields by key, or a BrokenClass that says why there are none.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import attrs

from nanochat.config import Rules, rules_of


class BrokenClass(Exception):
    """The fields of a config class cannot be read; says whose and why."""

    def __init__(self, cls: type, fault: Exception) -> None:
        super().__init__(f"the config class {cls.__qualname__} is broken: {type(fault).__name__}: {fault}")


@attrs.frozen(kw_only=True)
class Declared:
    """A field of a config class, as the recipe sees it."""

    name: str
    kind: Any
    rules: Rules
    default: Any


@cache
def declared_fields(cls: type) -> Mapping[str, Declared]:
    """A config class's fields by key. BrokenClass where they cannot be read."""
    try:
        return _read(cls)
    except Exception as fault:  # a plugin's annotations
        raise BrokenClass(cls, fault) from fault


def _read(cls: type) -> Mapping[str, Declared]:
    attrs.resolve_types(cls)
    found = {}
    for attribute in attrs.fields(cls):
        if not attribute.init:
            continue
        default = attribute.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            default = default.factory()
        name = attribute.alias or attribute.name
        kind = Any if attribute.type is None else attribute.type
        found[name] = Declared(name=name, kind=kind, rules=rules_of(attribute), default=of_kind(kind, default))
    return found


def of_kind(kind: Any, default: Any) -> Any:
    """A default as a written value would be stored: an integer is a float where floats are wanted."""
    return float(default) if kind is float and type(default) is int else default
