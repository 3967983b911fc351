"""Every key that a recipe can have, and what a person is told of it: in an editor, by `explain`, in recipes/KEYS.md.

In: a registry. Out: sections, one a component and one for each table that is none, with their keys as plain data. Not
here: whether a value is right (`nanochat.recipe.check`), and how an editor checks it (`nanochat.recipe.json_schema`).
"""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from nanochat.config import Derivation
from nanochat.errors import InputError, wrong_input
from nanochat.hardware import Hardware
from nanochat.recipe.declared import BrokenClass, Declared, declared_fields
from nanochat.recipe.header import Header
from nanochat.recipe.notation import plain, value_text
from nanochat.recipe.strict import config_in, holds_path, type_text
from nanochat.registry import Registry

COMPONENT_KINDS = ("stage", "model", "transform", "optimizer", "source", "task", "eval", "tool", "tracker")
"""Kinds that are tables with `use`; a launcher is a name in [hardware], a derivation stands in no recipe."""

FILE_KEYS = {
    "format": ("the integer 1", "the version of this language, which the recipe or one that it extends must say"),
    "extends": ("a string or an array of strings", "recipes that this one builds on, later ones over earlier"),
    "unset": ("an array of strings", "keys of the extended recipes that are taken away"),
    "hardware": ("a table", "where every stage runs; a stage may have one of its own over it"),
    "stages": ("a table of named stages", "what is done, each stage after those whose artifacts it takes"),
    "lock": ("a table", "what nanochat writes into a run's recipe.lock.toml; nobody writes it by hand"),
}
"""Keys of the file itself, which are in no config class: their types, and what they mean."""


@attrs.frozen(kw_only=True)
class Key:
    """One key of a table."""

    name: str
    """With those above it in the same component: `schedule.warmup_steps`."""
    type: str
    """As a person calls it: an integer, named tables of sources."""
    range: str = ""
    """at least 1, one of "a", "b"; empty where the type says it all."""
    default: str = ""
    """As TOML writes it; empty where there is none."""
    required: bool = False
    role: str = ""
    """identity, execution, or content: of a path what it leads to is identity. Empty for a table, whose keys say it."""
    doc: str = ""
    rule: str = ""
    """The derivation behind "auto"; what it does, and the places of what it is given."""
    sentence: str = ""
    inputs: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Type and range."""
        return f"{self.type}, {self.range}" if self.range else self.type

    @property
    def role_text(self) -> str:
        """The role, in words."""
        return "identity by its content" if self.role == "content" else self.role

    @property
    def facts(self) -> str:
        """Type, range, default and role on one line."""
        default = "required" if self.required else f"default {self.default}" if self.default else "optional"
        return " · ".join(part for part in (self.kind, default, self.role_text) if part)

    @property
    def derivation(self) -> str:
        """What "auto" gives, or nothing."""
        if not self.rule:
            return ""
        given = f" (from {', '.join(self.inputs)})" if self.inputs else ""
        return f'"auto": {self.sentence}{given}'


@attrs.frozen(kw_only=True)
class Section:
    """The keys of one component, of all components of a kind beside their own, or of a table that is no component."""

    kind: str
    """A component's kind; `slot`: keys that every component of a kind has there; `recipe`, `hardware`."""
    name: str
    doc: str
    distribution: str = ""
    places: tuple[str, ...] = ()
    """Where its table stands: [stages.NAME.optim.NAME]."""
    keys: tuple[Key, ...] = ()
    fault: str = ""
    """Why its keys are not known: the component is broken, or claimed twice."""

    @property
    def title(self) -> str:
        """optimizer `muon`, every optimizer, [hardware]."""
        if self.kind in ("recipe", "hardware"):
            return {"recipe": "the recipe file", "hardware": "[hardware]"}[self.kind]
        return f"every {self.name}" if self.kind == "slot" else f"{self.kind} `{self.name}`"

    @property
    def where(self) -> str:
        """Where it stands, as a sentence."""
        use = f" with use = {value_text(self.name)}" if self.kind in COMPONENT_KINDS else ""
        return f"In {', '.join(self.places)}{use}." if self.places else ""

    def only(self, name: str) -> "Section":
        """The section with the keys alone that a name means: `lr`, `muon.lr`, `warmup_steps`, `pretrain.schedule`."""
        keys = [key for key in self.keys if name in self._names(key)]
        return attrs.evolve(self, keys=tuple(keys))

    def aliases(self) -> Iterator[str]:
        """Everything by which it or a key of it may be asked for."""
        yield from (self.name, self.kind, f"{self.kind}:{self.name}")
        for key in self.keys:
            yield from self._names(key)

    def _names(self, key: Key) -> tuple[str, str, str]:
        return (key.name, f"{self.name}.{key.name}", key.name.rpartition(".")[2])


class Catalogue:
    """All keys of the core and of a registry's plugins."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def sections(self) -> list[Section]:
        """All there are: the file, the hardware, then component by component, kinds in COMPONENT_KINDS' order."""
        found = [self._file(), self._hardware()]
        places = _places(self)
        for kind in COMPONENT_KINDS:
            for slot in dict.fromkeys(slot for of_kind, slot in places if of_kind == kind and slot is not None):
                keys = tuple(self._keys(slot, declared_fields(slot)))
                found.append(Section(kind="slot", name=kind, doc=text_of(slot), places=places[kind, slot], keys=keys))
            where = tuple(place for (of_kind, _), its in places.items() if of_kind == kind for place in its)
            found += [self.component(kind, name, where) for name in self.names(kind)]
        launchers = [self._launcher(name) for name in self.names("launcher")]
        return found + launchers

    def names(self, kind: str) -> list[str]:
        """The components of a kind."""
        return self._registry.names(kind)

    def fields(self, kind: str, name: str) -> tuple[type, Mapping[str, Declared]]:
        """A component's config class and its fields. InputError where it is broken or claimed twice."""
        cls = self._registry.config_class(kind, name)
        try:
            _read_all(cls)
            return cls, declared_fields(cls)
        except BrokenClass as fault:
            raise wrong_input("E202", str(fault)) from fault
        except RecursionError as fault:  # it nests itself
            raise wrong_input("E202", str(BrokenClass(cls, fault))) from fault

    def component(self, kind: str, name: str, places: tuple[str, ...] = ()) -> Section:
        """The section of one component; a broken one says so and has no keys."""
        try:
            cls, fields = self.fields(kind, name)
        except InputError as fault:
            return Section(kind=kind, name=name, doc="", places=places, fault=fault.diagnostics[0].message)
        entry = self._registry.entry(kind, name)
        described = cls if entry.config is not None else self._registry.object(kind, name)
        keys = tuple(self._keys(cls, fields))
        return Section(
            kind=kind, name=name, doc=text_of(described), distribution=entry.distribution, places=places, keys=keys
        )

    def key(self, cls: type, field: Declared, above: str = "") -> Key:
        """One field as a person is told of it; `above`: the nested tables that it stands in."""
        rules, alone = field.rules, field.rules.role == "option" and config_in(field.kind) is None
        derivation = self._derivation(rules.derive)
        return Key(
            name=above + field.name,
            type=_type(field),
            range=_range(field),
            default=value_text(plain(field.default)) if alone and field.default not in (attrs.NOTHING, None) else "",
            required=field.default is attrs.NOTHING and not rules.optional,
            role=_role(field, cls) if alone or rules.role == "artifact" else "",
            doc=rules.doc,
            rule=rules.derive,
            sentence=derivation.sentence if derivation else "",
            inputs=tuple(place.removesuffix("?") for place in derivation.inputs.values()) if derivation else (),
        )

    def _keys(self, cls: type, fields: Mapping[str, Declared], above: str = "") -> Iterator[Key]:
        """Each field as a key; a config class within is its keys, below its own."""
        for field in fields.values():
            yield self.key(cls, field, above)
            inner = nested_class(field)
            if inner is not None:
                yield from self._keys(inner, nested_fields(inner, field.default), f"{above}{field.name}.")

    def _file(self) -> Section:
        own = [Key(name=name, type=kind, doc=doc) for name, (kind, doc) in FILE_KEYS.items()]
        header = self._keys(Header, declared_fields(Header))
        return Section(kind="recipe", name="recipe", doc="The top of a recipe.", keys=(*own, *header))

    def _hardware(self) -> Section:
        keys = tuple(self._keys(Hardware, declared_fields(Hardware)))
        places = ("[hardware]", "[stages.NAME.hardware]")
        return Section(kind="hardware", name="hardware", doc=text_of(Hardware), places=places, keys=keys)

    def _launcher(self, name: str) -> Section:
        where = f"Set by launcher = {value_text(name)} in [hardware], beside its settings."
        try:
            said = text_of(self._registry.object("launcher", name))
        except InputError as fault:
            return Section(kind="launcher", name=name, doc=where, fault=fault.diagnostics[0].message)
        return Section(kind="launcher", name=name, doc=f"{said} {where}".lstrip())

    def _derivation(self, rule: str) -> Derivation | None:
        try:
            found = self._registry.object("derivation", rule) if rule else None
        except InputError:
            return None
        return found if isinstance(found, Derivation) else None


def _read_all(cls: type) -> None:
    """Read the fields of a class and of what it nests. BrokenClass, RecursionError."""
    for field in declared_fields(cls).values():
        for inner in (field.rules.slot, nested_class(field)):
            if inner is not None:
                _read_all(inner)


def nested_class(field: Declared) -> type | None:
    """The config class that is an option's type, that is a table within the component's own."""
    return config_in(field.kind) if field.rules.role == "option" else None


def nested_fields(cls: type, instance: Any) -> Mapping[str, Declared]:
    """A nested class's fields, with the defaults of the instance that stands as the option's default."""
    fields = declared_fields(cls)
    if not isinstance(instance, cls):
        return fields
    return {name: attrs.evolve(field, default=getattr(instance, name)) for name, field in fields.items()}


def text_of(described: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(described) or "").partition("\n\n")[0].split())


def _places(catalogue: Catalogue) -> dict[tuple[str, type | None], tuple[str, ...]]:
    """Kind and slot → where such tables stand, as the fields of all components say, from the stages down."""
    found: dict[tuple[str, type | None], dict[str, None]] = {("stage", None): {"[stages.NAME]": None}}
    found["tracker", None] = {"[trackers.NAME]": None}
    waiting = [("stage", "stages.NAME")]
    for kind, path in waiting:
        for name in catalogue.names(kind):
            try:
                _, fields = catalogue.fields(kind, name)
            except InputError:
                continue
            for field in fields.values():
                if field.rules.role in ("component", "components"):
                    inner = f"{path}.{field.name}" + (".NAME" if field.rules.role == "components" else "")
                    known = found.setdefault((field.rules.kind, field.rules.slot), {})
                    if f"[{inner}]" not in known and path.count(".") < _DEEPEST:
                        known[f"[{inner}]"] = None
                        waiting.append((field.rules.kind, inner))
    return {place: tuple(where) for place, where in found.items()}


_DEEPEST = 6
"""Components within components are followed so far: a task of tasks could go on for ever."""


def _type(field: Declared) -> str:
    rules = field.rules
    if rules.role == "component":
        return f"a {rules.kind}: a table with `use`"
    if rules.role == "components":
        return f"named {rules.kind}s: tables with `use`"
    if rules.role == "artifact":
        return f'a {rules.kind}: "stage:NAME", "path:…" or "store:KEY"'
    return type_text(field.kind)


def _range(field: Declared) -> str:
    rules = field.rules
    parts = [f"one of {', '.join(value_text(choice) for choice in rules.choices)}"] if rules.choices else []
    parts += ["of letters, digits, `_` and `-`"] if rules.name else []
    parts += [f"at least {value_text(rules.minimum)}"] if rules.minimum is not None else []
    parts += [f"at most {value_text(rules.maximum)}"] if rules.maximum is not None else []
    return ", ".join(parts)


def _role(field: Declared, cls: type) -> str:
    if field.rules.role == "option" and holds_path(field.kind):
        return "content" if not field.rules.execution or hasattr(cls, "fingerprint") else "execution"
    return "execution" if field.rules.execution else "identity"
