"""The type of one option as JSON Schema, Draft 4: what an editor can refuse of a value without knowing the recipe.

In: a field of a config class. Out: a schema that refuses no value that `nanochat.recipe.check` takes; what it cannot
say (nan, paths that exist) it leaves to the check. Not here: tables of several keys; those are `json_schema`.

JSON Schema's keywords each speak of one type, so that several types need no `anyOf`: {"type": ["integer", "object"],
"minimum": 1, "required": ["from"]}. An editor then says what is wrong, where `anyOf` only says that nothing fits.
"""

import re
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from nanochat.config import AUTO, Rules
from nanochat.recipe.notation import LONGEST_NAME
from nanochat.recipe.reference import FROM

Schema = dict[str, Any]

TAKEN: Schema = {
    "type": "object",
    "required": [FROM],
    "patternProperties": {f"^{FROM}$": {"type": "string", "minLength": 1}},
    "additionalProperties": False,
}
"""`{ from = "…" }` where a value is wanted. A pattern: editors would offer a property for every key of the recipe."""

NAME = f"[A-Za-z0-9_][A-Za-z0-9_-]{{0,{LONGEST_NAME - 1}}}"
"""What `nanochat.recipe.notation.is_name` takes."""
_SPECIAL = re.compile(r"[\\^$.|?*+()\[\]{}]")
_PLAIN: dict[Any, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    Path: {"type": "string"},
}


def option_schema(kind: Any, rules: Rules) -> Schema:
    """What an option of this type and these rules may be written as."""
    found = _of_type(kind, rules)
    if rules.derive:
        found = _or_auto(found)
    if set(found) == {"enum"}:
        return choice_schema(found["enum"])
    return found if "object" in _types(found) else either([found, TAKEN])


def choice_schema(choices: Sequence[Any]) -> Schema:
    """One of these values. Editors complete from an `enum`; the pattern makes their error name the choices."""
    schema: Schema = {"anyOf": [{"enum": [*choices]}, TAKEN]}
    return schema | ({"pattern": any_of_names(choices)} if all(isinstance(choice, str) for choice in choices) else {})


def _or_auto(schema: Schema) -> Schema:
    if "enum" in schema:
        return {"enum": [*dict.fromkeys([AUTO, *schema["enum"]])]}
    return schema if "string" in _types(schema) else either([schema, {"type": "string", "pattern": f"^{AUTO}$"}])


def _of_type(kind: Any, rules: Rules) -> Schema:
    """Types that no recipe can give, and those that say nothing, are open: {}."""
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, types.UnionType):
        return either([_of_type(member, rules) for member in arguments if member is not type(None)])
    if origin is Literal:
        return _one_of([value for value in arguments if value is not None])
    if origin in (list, Sequence) or (origin is tuple and (not arguments or arguments[-1] is ...)):
        return {"type": "array", "items": _of_type(arguments[0] if arguments else Any, rules)}
    if origin is tuple:
        items = [_of_type(member, rules) for member in arguments]
        return {"type": "array", "items": items, "minItems": len(items), "maxItems": len(items)}
    if origin in (dict, Mapping):
        # Rules speak of numbers and of arrays of them, not of what is in a table.
        inner = _of_type(arguments[1] if arguments else Any, Rules())
        named = {f"^{FROM}$": {"type": "string", "minLength": 1}}
        return {"type": "object", "patternProperties": named, "additionalProperties": either([inner, TAKEN])}
    return _ranged(dict(_PLAIN[kind]), rules) if isinstance(kind, type) and kind in _PLAIN else {}


def _ranged(plain: Schema, rules: Rules) -> Schema:
    if rules.choices and plain["type"] != "number":  # 1 and 1.0 are one choice, but may be two to an editor
        return _one_of(rules.choices)
    if rules.name and plain["type"] == "string":
        plain["pattern"] = f"^{NAME}$"
    if plain["type"] in ("integer", "number"):
        bounds = {"minimum": rules.minimum, "maximum": rules.maximum}
        plain |= {name: bound for name, bound in bounds.items() if bound is not None}
    if plain["type"] == "number" and not rules.finite:
        plain["type"] = ["number", "null"]  # what an editor that goes by way of JSON makes of inf and nan
    return plain


def _one_of(choices: Sequence[Any]) -> Schema:
    return {"enum": [*choices]} if all(isinstance(choice, str | int) for choice in choices) else {}


def either(alternatives: Sequence[Schema]) -> Schema:
    """A schema for what fits one of these: one with several types where they have different ones, else `anyOf`."""
    distinct = [schema for number, schema in enumerate(alternatives) if schema not in alternatives[:number]]
    if {} in distinct:
        return {}
    if len(distinct) == 1:
        return distinct[0]
    named = [_types(schema) for schema in distinct]
    if any(not names for names in named) or len({name for names in named for name in names}) < sum(map(len, named)):
        return {"anyOf": distinct}
    merged: Schema = {}
    for schema in distinct:
        merged |= schema
    return merged | {"type": [name for names in named for name in names]}


def _types(schema: Schema) -> list[str]:
    """The types that a schema names; none where its keywords would speak of others too."""
    found = schema.get("type", [])
    return [] if "enum" in schema or "anyOf" in schema else [found] if isinstance(found, str) else found


def any_of_names(names: Sequence[str]) -> str:
    """A pattern for exactly these strings, in the one way to escape that all dialects read."""
    escaped = [_SPECIAL.sub(r"\\\g<0>", name) for name in names]
    return f"^({'|'.join(escaped)})$"
