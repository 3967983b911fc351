"""Types of leaf values, taken strictly: nothing is coerced but an integer where a float is wanted.

In: a plain TOML value and a field's annotation. Out: the value as the field holds it, or a Mismatch that says what is
valid. cattrs does the walking; by default it would turn "false" into True and 3.9 into 3, so every leaf has a hook of
its own.
"""

import types
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import attrs
import cattrs

from nanochat.recipe.notation import value_text

_LISTS = (list, tuple, Sequence)
_TABLES = (dict, Mapping)


class Mismatch(Exception):
    """The value is not of the type. `path`: to what in it is not, an index or a name for each level."""

    def __init__(self, path: tuple[str | int, ...] = ()) -> None:
        super().__init__()
        self.path = path


class UnknownType(Exception):
    """A config class wants a type that no recipe can give."""


def structure(value: Any, kind: Any) -> Any:
    """The value as a field of type `kind` holds it. Mismatch, or UnknownType where the class is wrong."""
    try:
        return _converter().structure(value, kind)
    except cattrs.StructureHandlerNotFoundError:
        raise UnknownType(str(kind)) from None


def type_text(kind: Any) -> str:
    """A type as a person calls it: an integer or an array of strings."""
    origin: Any = get_origin(kind)
    arguments = get_args(kind)
    if _known(kind):
        return _NAMES[kind][0]
    if origin in (Union, types.UnionType):
        return " or ".join(type_text(a) for a in arguments if a is not type(None))
    if origin is Literal:
        return "one of " + ", ".join(value_text(a) for a in arguments if a is not None)
    if origin in _LISTS or kind in _LISTS:
        return f"an array of {_plural(arguments[0])}" if arguments else "an array"
    if origin in _TABLES or kind in _TABLES or is_config(kind):
        return f"a table of {_plural(arguments[1])}" if arguments else "a table"
    return str(kind)


def is_config(kind: Any) -> bool:
    """Whether a type is a config class, that is a table of its own."""
    return isinstance(kind, type) and attrs.has(kind)


def config_in(kind: Any) -> type | None:
    """The config class that a type is or may be (`Schedule | None`)."""
    candidates = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return next((c for c in candidates if is_config(c)), None)


def holds_path(kind: Any) -> bool:
    """Whether a type is a path or holds paths: then the value is a place, and its content is the identity."""
    return kind is Path or any(holds_path(argument) for argument in get_args(kind))


def anchored(value: Any, base: Path) -> Any:
    """The value with its relative paths made absolute, from the folder of the file that says them."""
    if isinstance(value, Path):
        return (value.expanduser() if str(value).startswith("~/") else base / value).absolute()
    if isinstance(value, list | tuple):
        return type(value)(anchored(item, base) for item in value)
    if isinstance(value, dict):
        return {name: anchored(item, base) for name, item in value.items()}
    return value


@cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    converter.register_structure_hook(bool, lambda v, _: _expect(v, type(v) is bool))
    converter.register_structure_hook(int, lambda v, _: _expect(v, type(v) is int))
    converter.register_structure_hook(str, lambda v, _: _expect(v, type(v) is str))
    converter.register_structure_hook(float, lambda v, _: float(_expect(v, type(v) in (int, float))))
    converter.register_structure_hook(Path, lambda v, _: Path(_expect(v, type(v) is str and "\0" not in v)))
    converter.register_structure_hook_func(lambda kind: kind is Any, lambda v, _: _anything(v))
    converter.register_structure_hook_func(lambda kind: _outer(kind) is Literal, _literal)
    converter.register_structure_hook_func(lambda kind: _outer(kind) in (Union, types.UnionType), _union)
    converter.register_structure_hook_func(lambda kind: _outer(kind) in _LISTS, _array)
    converter.register_structure_hook_func(lambda kind: _outer(kind) in _TABLES, _table)
    # A config class is a table of its own, read key by key; no value of a key is one.
    converter.register_structure_hook_func(is_config, lambda v, _: _expect(v, False))
    converter.register_structure_hook_func(lambda kind: kind is type(None), lambda v, _: _expect(v, v is None))
    return converter


def _outer(kind: Any) -> Any:
    return get_origin(kind) or kind


def _expect(value: Any, fits: bool) -> Any:
    if not fits:
        raise Mismatch
    return value


def _anything(value: Any) -> Any:
    if isinstance(value, list):
        return [_item(index, item, Any) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {name: _item(name, item, Any) for name, item in sorted(value.items())}
    return _expect(value, isinstance(value, bool | int | float | str))


def _literal(value: Any, kind: Any) -> Any:
    return _expect(value, any(type(value) is type(a) and value == a for a in get_args(kind)))


def _union(value: Any, kind: Any) -> Any:
    members = sorted(get_args(kind), key=lambda member: _outer(member) is not type(value))
    paths = []
    for member in members:
        try:
            return structure(value, member)
        except Mismatch as fault:
            paths.append(fault.path)
    raise Mismatch(max(paths, key=len))


def _array(value: Any, kind: Any) -> Any:
    _expect(value, isinstance(value, list))
    arguments = get_args(kind)
    if _outer(kind) is not tuple:
        return [_item(index, item, arguments[0] if arguments else Any) for index, item in enumerate(value)]
    if not arguments or arguments[-1] is ...:
        return tuple(_item(index, item, arguments[0] if arguments else Any) for index, item in enumerate(value))
    _expect(value, len(value) == len(arguments))
    return tuple(_item(index, item, arguments[index]) for index, item in enumerate(value))


def _item(name: str | int, value: Any, kind: Any) -> Any:
    """What stands in an array or a table; a Mismatch in it says where."""
    try:
        return structure(value, kind)
    except Mismatch as fault:
        raise Mismatch((name, *fault.path)) from None


def _table(value: Any, kind: Any) -> Any:
    _expect(value, isinstance(value, dict))
    arguments = get_args(kind)
    # In one order, whatever the file's: two recipes that differ in the order of keys have one result.
    return {name: _item(name, value[name], arguments[1] if arguments else Any) for name in sorted(value)}


_NAMES: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "booleans"),
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
    Path: ("a path, written as a string", "paths"),
    Any: ("a value", "values"),
}


def _plural(kind: Any) -> str:
    return _NAMES[kind][1] if _known(kind) else type_text(kind)


def _known(kind: Any) -> bool:
    return kind.__hash__ is not None and kind in _NAMES
