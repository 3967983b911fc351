"""The recipe language as JSON Schema, Draft 4: completion, hover and first checks in editors (taplo, Even Better TOML).

In: a registry. Out: one document for the core and every plugin in it. The contract: what the schema refuses,
`load_recipe` refuses too. So no key is required (a recipe that this one extends may have it, or a table that it takes
from), a table without `use` may hold the keys of any component of its kind, and a component that is broken or claimed
twice is left open. Not here: the types of single options (`json_type`) and what is said of a key (`catalogue`).
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import attrs

from nanochat.config import AUTO
from nanochat.errors import InputError
from nanochat.hardware import Hardware
from nanochat.recipe.artifacts import KEY_CHARACTERS
from nanochat.recipe.catalogue import FILE_KEYS, Catalogue, nested_class, nested_fields
from nanochat.recipe.declared import Declared, declared_fields
from nanochat.recipe.header import Header
from nanochat.recipe.json_type import NAME, TAKEN, Schema, any_of_names, choice_schema, either, option_schema
from nanochat.recipe.notation import LONGEST_NAME, plain
from nanochat.recipe.reference import FROM
from nanochat.recipe.source import FORMAT
from nanochat.registry import Registry

DRAFT = "http://json-schema.org/draft-04/schema#"
BAD_NAME = f"^$|^-|[^A-Za-z0-9_-]|^.{{{LONGEST_NAME + 1}}}"
"""What may not name a stage, a source, a group. So said, `from` can stand beside the names."""
REFERENCE = f"^(stage:{NAME}$|path:[\\s\\S]|store:[0-9a-f]{{{KEY_CHARACTERS},64}}$)"
_TEXT: Schema = {"type": "string", "minLength": 1}
_FROM = _TEXT | {"description": "takes this table from elsewhere in the recipe; what stands beside it comes over it"}

NO_KEY: Schema = {"not": {"description": "no such key here"}}
"""Refuses any value. Taplo shows what `false` refuses at every key of the table, and what this does at the one key."""

Place = tuple[tuple[str, type | None], ...]
"""What may stand in a table with `use`: kinds, each with its slot. Several where the stage's own `use` is not known."""
Component = tuple[str, type | None, str]
"""Kind, slot and name."""


@attrs.frozen
class Claim:
    """One component's field; several may have a key of one name."""

    owner: str
    cls: type
    field: Declared
    above: str = ""


Claims = Mapping[str, Sequence[Claim]]


def json_schema(registry: Registry) -> dict[str, Any]:
    """The schema of a recipe file."""
    return _Document(registry).recipe()


def schema_text(schema: Mapping[str, Any]) -> str:
    """The schema as a file holds it."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


class _Document:
    """Writes the schema; each place that components stand in is one definition, however often it is referred to."""

    def __init__(self, registry: Registry) -> None:
        self._catalogue = Catalogue(registry)
        self._definitions: dict[str, Schema] = {}
        self._written: dict[Place, str] = {}

    def recipe(self) -> Schema:
        header = self._properties(_claims("", Header, declared_fields(Header)))
        own: dict[str, Schema] = {
            "format": {"enum": [FORMAT]},
            "extends": {"type": ["string", "array"], "minLength": 1, "items": _TEXT},
            "unset": {"type": "array", "items": _TEXT},
            "hardware": self._hardware(),
            "stages": self._named((("stage", None),)),
            "lock": {"type": "object"},
        }
        return {
            "$schema": DRAFT,
            "title": "A nanochat recipe",
            "description": "Printed by `nanochat schema`, for the core and the plugins that it found.",
            "type": "object",
            "properties": {name: found | {"description": FILE_KEYS[name][1]} for name, found in own.items()} | header,
            "additionalProperties": NO_KEY,
            "definitions": self._definitions,
        }

    def _hardware(self) -> Schema:
        fields = dict(declared_fields(Hardware))
        launcher = fields["launcher"]
        rules = attrs.evolve(launcher.rules, choices=tuple(self._catalogue.names("launcher")))
        fields["launcher"] = attrs.evolve(launcher, rules=rules)
        return self._table(_claims("hardware", Hardware, fields))

    # Tables

    def _table(self, claims: Claims) -> Schema:
        """A table whose keys are known."""
        properties = {FROM: _FROM} | self._properties(claims)
        return {"type": "object", "properties": properties, "additionalProperties": NO_KEY}

    def _named(self, place: Place) -> Schema:
        """A table of named tables with `use`."""
        bad = {BAD_NAME: {"not": {"description": f"a name: letters, digits, _ and -, at most {LONGEST_NAME}"}}}
        return self._table({}) | {"patternProperties": bad, "additionalProperties": self._component(place)}

    def _component(self, place: Place) -> Schema:
        """A reference to the definition of a place, which is written when it is first asked for."""
        if place not in self._written:
            words = [kind if slot is None else f"{kind}_{slot.__name__}" for kind, slot in place]
            name = re.sub(r"\W", "_", "_or_".join(words))
            while name in self._definitions:
                name += "_"
            self._written[place] = name
            self._definitions[name] = {}  # its place in the order: components may hold others of their own kind
            self._definitions[name].update(self._place(place))
        return {"$ref": f"#/definitions/{self._written[place]}"}

    def _place(self, place: Place) -> Schema:
        """All components that may stand there as one table; then what only some of them allow, as `dependencies`.

        There is no `if` in Draft 4. An `anyOf` with a branch for each `use` would say the same, but an editor shows at
        the whole table what is wrong in it, and proposes each of its keys once a branch.
        """
        components = [(kind, slot, name) for kind, slot in place for name in self._catalogue.names(kind)]
        owned = {component: self._owned(*component) for component in components}
        claims = _together(found for found in owned.values() if found is not None)
        table = self._table(claims) | {"description": f"{' or '.join(kind for kind, _ in place)}: a table with `use`"}
        table["properties"] = {"use": self._use(components), **table["properties"]}
        if "stage" in dict(place):
            table["properties"]["hardware"] = self._hardware() | {"description": FILE_KEYS["hardware"][1]}
        if None in owned.values():
            table["additionalProperties"] = True
        found = {key: self._depending(key, its, owned) for key, its in claims.items()}
        return table | {"dependencies": {key: schema for key, schema in found.items() if schema}}

    def _use(self, components: Sequence[Component]) -> Schema:
        """The names, each with what it is."""
        docs = {name: self._catalogue.component(kind, name).doc for kind, _, name in components}
        if not docs:
            return TAKEN | {"description": "nothing of this kind is installed"}
        schema = choice_schema([*docs])
        schema["anyOf"][0] |= {"description": "which component", "x-taplo": {"docs": {"enumValues": [*docs.values()]}}}
        return schema

    def _depending(self, key: str, claims: Sequence[Claim], owned: Mapping[Component, Claims | None]) -> Schema:
        """What a key asks of the table that it stands in: a `use` that has it, and the type that it has there."""
        schema: Schema = {}
        having = dict.fromkeys(name for (_, _, name), own in owned.items() if own is None or key in own)
        if len(having) < len({name for _, _, name in owned}):
            schema["properties"] = {"use": {"pattern": any_of_names([*having])}}
        allowed: dict[str, list[Schema]] = {name: [] for name in having}
        for (_, _, name), own in owned.items():
            if name in allowed:
                allowed[name] += [{}] if own is None else [self._narrowed(claim, claims) for claim in own.get(key, [])]
        rules = [
            {"anyOf": [{"not": _uses([name])}, {"properties": {key: either(narrowed)}}]}
            for name, narrowed in allowed.items()
            if {} not in narrowed
        ]
        return schema | ({"allOf": rules} if rules else {})

    def _owned(self, kind: str, slot: type | None, name: str) -> Claims | None:
        """The keys of one component and its slot, which come first; None where they are not known."""
        try:
            cls, fields = self._catalogue.fields(kind, name)
        except InputError:
            return None
        taken = ("use", FROM, "hardware") if kind == "stage" else ("use", FROM)
        own = _claims(name, cls, {key: field for key, field in fields.items() if key not in taken})
        return own | (_claims(kind, slot, declared_fields(slot)) if slot is not None else {})

    # Keys

    def _properties(self, claims: Claims) -> dict[str, Schema]:
        return {key: self._key(found) for key, found in claims.items()}

    def _key(self, claims: Sequence[Claim]) -> Schema:
        """A key with what is said of it. A `$ref` allows nothing beside it, so it goes into an `allOf` of one."""
        schema = self._type(claims)
        schema = {"allOf": [schema]} if "$ref" in schema else schema
        note: Schema = {"description": "\n\n".join(dict.fromkeys(self._told(claim) for claim in claims))}
        defaults = [plain(claim.field.default) for claim in claims]
        if _is_json(defaults[0]) and all(default == defaults[0] for default in defaults):
            note["default"] = defaults[0]
        if "enum" in schema.get("anyOf", [{}])[0]:  # there completion finds it, and hover too
            first, *rest = schema["anyOf"]
            return schema | {"anyOf": [first | note, *rest]}
        return schema | note

    def _told(self, claim: Claim) -> str:
        key = self._catalogue.key(claim.cls, claim.field, claim.above)
        title = ".".join(part for part in (claim.owner, key.name) if part)
        head = f"**{title}**: {key.doc}" if key.doc else f"**{title}**"
        return "\n\n".join(part for part in (head, key.facts, key.derivation) if part)

    def _type(self, claims: Sequence[Claim]) -> Schema:
        """What fits any of the claims."""
        role = _same([claim.field.rules.role for claim in claims])
        if role in ("component", "components"):
            place = tuple(dict.fromkeys((claim.field.rules.kind, claim.field.rules.slot) for claim in claims))
            return self._component(place) if role == "component" else self._named(place)
        if role == "artifact":
            return either([{"type": "string", "pattern": REFERENCE}, TAKEN])
        if role == "option" and all(_is_table(claim.field) for claim in claims):
            return self._table(_together(_inner(claim) for claim in claims))
        if len(claims) > 1:
            if any(claim.field.rules.derive for claim in claims):
                claims = [_with_auto(claim) for claim in claims]
            return either([self._type([claim]) for claim in claims])
        (claim,) = claims
        return {} if nested_class(claim.field) is not None else option_schema(claim.field.kind, claim.field.rules)

    def _narrowed(self, claim: Claim, claims: Sequence[Claim]) -> Schema:
        """What one of several claims refuses that `_type` lets through for all of them; {} where that is nothing."""
        rules = claim.field.rules
        if _same([other.field.rules.role for other in claims]) is None:
            return self._type([claim])
        if rules.role in ("component", "components"):
            known = self._catalogue.names(rules.kind)
            others = {name for c in claims for name in self._catalogue.names(c.field.rules.kind)}.difference(known)
            narrowed: Schema = {"not": _uses(sorted(others))} if others else {}
            return narrowed if rules.role == "component" or not others else {"additionalProperties": narrowed}
        if rules.role == "artifact" or _same([nested_class(other.field) for other in claims]) is not None:
            return {}
        if self._type([claim]) == self._type(claims):
            return {}
        if self._type([_with_auto(claim)]) == self._type(claims):
            return {"not": {"enum": [AUTO]}}
        return self._type([claim])


def _claims(owner: str, cls: type, fields: Mapping[str, Declared], above: str = "") -> dict[str, list[Claim]]:
    return {key: [Claim(owner, cls, field, above)] for key, field in fields.items()}


def _together(several: Iterable[Claims]) -> dict[str, list[Claim]]:
    found: dict[str, list[Claim]] = {}
    for claims in several:
        for key, its in claims.items():
            found.setdefault(key, []).extend(its)
    return found


def _inner(claim: Claim) -> dict[str, list[Claim]]:
    """The keys of a nested table."""
    cls = nested_class(claim.field)
    assert cls is not None
    above = f"{claim.above}{claim.field.name}."
    return _claims(claim.owner, cls, nested_fields(cls, claim.field.default), above)


def _with_auto(claim: Claim) -> Claim:
    """The claim as if "auto" were one of its values."""
    rules = attrs.evolve(claim.field.rules, derive=claim.field.rules.derive or AUTO)
    return attrs.evolve(claim, field=attrs.evolve(claim.field, rules=rules))


def _is_table(field: Declared) -> bool:
    """Whether an option is a nested table and nothing else."""
    inner = nested_class(field)
    return inner is not None and set(get_args(field.kind)) <= {inner, type(None)}


def _uses(names: Sequence[str]) -> Schema:
    """A table whose `use` is one of these."""
    return {"type": "object", "required": ["use"], "properties": {"use": {"enum": [*names]}}}


def _same(values: Sequence[Any]) -> Any:
    """The value that all have; None where they differ."""
    return values[0] if all(value == values[0] for value in values) else None


def _is_json(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, bool | int | str) or (isinstance(value, list | dict) and all(map(_is_json, value)))
