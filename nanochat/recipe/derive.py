"""Values filled in: what is written is checked, what is "auto" is derived, what is absent takes its default.

In: connected drafts, the registry's derivations, the machine. Out: cells with a value and its origin, and configs
built from them. Everything is resolved on demand, so a derivation may use other derived values, across stages;
circles are E113. What depends on a reported problem fails silently.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

import attrs

from nanochat.config import Artifact, Component, Derivation
from nanochat.errors import InputError, NanochatError
from nanochat.hardware import Machine
from nanochat.recipe.artifacts import NotRecorded, recorded
from nanochat.recipe.build import build_config
from nanochat.recipe.check import Failed, checked, range_fault
from nanochat.recipe.draft import Cell, Draft, Link, Part, RecipeDraft, StageDraft
from nanochat.recipe.misspelling import near_path, within
from nanochat.recipe.notation import described, key_text, plain, shown
from nanochat.recipe.problems import Problems
from nanochat.recipe.resolved import KeyPath, Origin
from nanochat.recipe.strict import Mismatch, structure, type_text
from nanochat.recipe.tree import Later, Leaf
from nanochat.registry import Registry

AUTO = "auto"
CARRIED = ("model", "tokenizer")
"""What a checkpoint brings into the stage that starts from it."""


class _Missing(Exception):
    """A derivation's input is not there; says why."""


class Resolver:
    """Fills a recipe's drafts."""

    def __init__(self, recipe: RecipeDraft, registry: Registry, machine: Machine, problems: Problems) -> None:
        self._recipe, self._registry, self._machine, self._problems = recipe, registry, machine, problems
        self._cells = {cell.path: cell for draft in recipe.drafts() for cell in draft.cells()}
        self._chain: list[KeyPath] = []
        self._places: dict[int, KeyPath] = {}
        """id of a built config → its table; the drafts keep the objects alive."""

    def fill(self) -> None:
        """Resolve every cell and build every config that can be built."""
        for cell in self._cells.values():
            try:
                self.value(cell)
            except Failed:
                cell.owner.failed = True
        for draft in self._recipe.drafts():
            for inner in list(draft.drafts())[::-1]:
                try:
                    self.config(inner)
                except Failed:
                    continue

    def model(self, stage: StageDraft) -> Any:
        """The config of the model that a stage trains, or None where it is not known here. Failed: it was reported."""
        try:
            return self._walk(stage.config, ["model"])
        except (_Missing, NotRecorded):
            return None

    def carried_model(self, link: Link) -> Any:
        """The config of the model in the checkpoint that a link leads to, or None where it is not known here."""
        try:
            return self._through(link, ["model"])
        except (_Missing, NotRecorded):
            return None

    def vocab_size(self, link: Link) -> int | None:
        """How many ids the tokenizer behind a link has, or may have at most; None where it is not known here."""
        try:
            found = self._through(link, ["vocab_size"])
        except (_Missing, NotRecorded, Failed):
            return None
        return found if isinstance(found, int) else None

    # Values

    def value(self, cell: Cell) -> Any:
        """The value of one option, resolved if it is not yet. Failed where it was reported."""
        if cell.state == "failed":
            raise Failed
        if cell.state == "done":
            return cell.value
        if cell.state == "resolving":
            self._report_circle(cell)
        cell.state = "resolving"
        self._chain.append(cell.path)
        try:
            cell.value, cell.origin = self._resolve(cell)
            cell.state = "done"
        except Failed:
            cell.state = "failed"
            cell.owner.failed = True
            raise
        finally:
            self._chain.pop()
        return cell.value

    def _resolve(self, cell: Cell) -> tuple[Any, Origin]:
        leaf = cell.leaf
        if leaf is None:
            if cell.default is attrs.NOTHING:
                if cell.path in self._recipe.meant:
                    raise Failed
                doc = f" ({cell.rules.doc})" if cell.rules.doc else ""
                message = f"{key_text(cell.owner.path)} lacks `{cell.path[-1]}`, {type_text(cell.kind)}{doc}"
                self._problems.add("E105", message, at=cell.owner.location, subject=cell.path[-1])
                raise Failed
            if cell.rules.derive and cell.default == AUTO:
                return self._derive(cell)
            return cell.default, Origin(kind="default")
        if isinstance(leaf.value, Later):
            return self._taken(cell, leaf, leaf.value)
        if cell.rules.derive and leaf.value == AUTO:
            return self._derive(cell)
        return checked(cell, leaf.value, leaf, self._problems), Origin(kind=leaf.written, location=leaf.location)

    def _taken(self, cell: Cell, leaf: Leaf, later: Later) -> tuple[Any, Origin]:
        """The value of another cell, by `from`."""
        if not later.target:
            raise Failed
        source = self._cells.get(later.target)
        if source is None:
            if within(later.target, self._recipe.meant):
                raise Failed
            label = near_path(later.target, self._cells)
            message = f"{shown(key_text(later.target))} names nothing in this recipe"
            self._problems.add("E110", message, at=leaf.place, label=label)
            raise Failed
        value = plain(self.value(source))
        if value is None:
            message = f"{key_text(later.target)} has no value"
            self._problems.add("E110", message, at=leaf.place)
            raise Failed
        return checked(cell, value, leaf, self._problems), source.origin or Origin(kind="default")

    # Derivations

    def _derive(self, cell: Cell) -> tuple[Any, Origin]:
        rule = cell.rules.derive
        derivation = self._derivation(cell, rule)
        given: dict[str, Any] = {}
        try:
            for parameter, place in derivation.inputs.items():
                given[parameter] = self._input(cell, place)
            found = derivation.compute(**given)
            found = structure(plain(found), cell.kind)
        except (Failed, NanochatError):
            raise Failed from None
        except (_Missing, NotRecorded, ValueError, ArithmeticError) as fault:
            self._cannot(cell, str(fault))
        except Mismatch:
            self._cannot(cell, f"the rule gave {described(plain(found))}, not {type_text(cell.kind)}")
        except Exception as fault:  # a plugin's rule
            self._cannot(cell, f"the rule failed: {type(fault).__name__}: {fault}")
        out_of_range = range_fault(found, cell.rules)
        if out_of_range:
            self._cannot(cell, f"the rule gave {shown(found)}, but {out_of_range}")
        inputs = {name: self._as_input(value) for name, value in given.items() if value is not None}
        return found, Origin(kind="derived", rule=rule, inputs=inputs, sentence=derivation.sentence)

    def _derivation(self, cell: Cell, rule: str) -> Derivation:
        try:
            found = self._registry.object("derivation", rule)
        except InputError as fault:
            self._problems.add_all(fault, at=cell.place)
            raise Failed from None
        if not isinstance(found, Derivation):
            self._problems.add("E202", f"the derivation `{rule}` is no Derivation", at=cell.place, subject=rule)
            raise Failed
        return found

    def _input(self, cell: Cell, place: str) -> Any:
        """What a derivation's input stands for. A place that ends in `?` may be absent: None."""
        try:
            return self._lookup(cell, place.removesuffix("?").split("."))
        except (_Missing, NotRecorded):
            if place.endswith("?"):
                return None
            raise

    def _lookup(self, cell: Cell, words: list[str]) -> Any:
        owner, first, rest = cell.owner, words[0], words[1:]
        if first == "machine":
            return self._machine
        if first == "recipe":
            return self._walk(self._recipe.header, rest)
        if first == "hardware":
            return self._walk(owner.stage.hardware if owner.stage else self._recipe.hardware, rest)
        if first == "stage":
            if owner.stage is None:
                raise _Missing(f"{key_text(cell.path)} is in no stage")
            return self._walk(owner.stage.config, rest)
        part = owner.part
        if first in ("slot", "table"):
            if part is None:
                raise _Missing(f"{key_text(cell.path)} is in no component's table")
            return self._in_part(part, rest)
        if first not in owner.fields and part is not None:
            return self._in_part(part, words)
        return self._walk(owner, words)

    def _in_part(self, part: Part, words: list[str]) -> Any:
        if not words:
            return self.config(part.config)
        in_slot = part.slot is not None and words[0] in part.slot.fields
        return self._walk(part.slot if in_slot and part.slot else part.config, words)

    def _walk(self, draft: Draft, words: list[str]) -> Any:
        """The value, config or components at a path below a draft."""
        if not words:
            return self.config(draft)
        name, rest = words[0], words[1:]
        if name not in draft.fields:
            return self._beyond(draft, words)
        found = draft.fields[name]
        if isinstance(found, dict):
            if not rest:
                return {part_name: self.config(part.config) for part_name, part in found.items()}
            found, rest = found.get(rest[0]), rest[1:]
        if isinstance(found, Cell):
            return self._inside(self.value(found), rest)
        if isinstance(found, Draft):
            return self._walk(found, rest)
        if isinstance(found, Part):
            return self._in_part(found, rest)
        if isinstance(found, Link):
            return self._through(found, rest)
        if draft.failed:
            raise Failed
        raise _Missing(f"{key_text(draft.path)} has no `{'.'.join(words)}`")

    def _inside(self, value: Any, words: list[str]) -> Any:
        for word in words:
            if not isinstance(value, Mapping) or word not in value:
                raise _Missing(f"there is no `{word}` in {shown(plain(value))}")
            value = value[word]
        return value

    def _beyond(self, draft: Draft, words: list[str]) -> Any:
        """A stage without a model or tokenizer of its own has those of the checkpoint that it starts from."""
        if words[0] in CARRIED and draft.stage is not None and draft is draft.stage.config:
            for found in draft.fields.values():
                if isinstance(found, Link) and found.kind == "checkpoint":
                    return self._through(found, words)
        if draft.failed:
            raise Failed
        raise _Missing(f"{key_text(draft.path)} has no `{words[0]}`")

    def _through(self, link: Link, words: list[str]) -> Any:
        """Across an artifact reference: into the stage that makes it, or what the artifact records."""
        if not words:
            return link.reference
        if link.stage is not None:
            if link.stage.in_circle:
                raise Failed
            return self._walk(link.stage.config, words)
        if link.folder is not None:
            return recorded(link.folder, words, self._registry)
        if link.failed:
            raise Failed
        if link.reference is None:
            raise _Missing(f"{key_text(link.path)} is not given")
        raise Failed

    def _cannot(self, cell: Cell, reason: str) -> NoReturn:
        name = key_text(cell.path)
        self._problems.add(
            "E113",
            f"{name} cannot be derived by {cell.rules.derive}: {reason}",
            at=cell.place,
            subject=cell.path[-1],
            help=f"set `{cell.path[-1]}` in the recipe",
        )
        raise Failed

    def _report_circle(self, cell: Cell) -> NoReturn:
        circle = [key_text(path) for path in [*self._chain[self._chain.index(cell.path) :], cell.path]]
        message = f"values are derived from each other in a circle: {' → '.join(circle)}"
        self._problems.add(
            "E113", message, at=cell.place, subject=" ".join(sorted(set(circle))), help="set one of them"
        )
        raise Failed

    # Configs

    def config(self, draft: Draft) -> Any:
        """The config object of a draft. Failed where something in it was reported."""
        if draft.state == "done" and not draft.failed:
            return draft.built
        if draft.failed or draft.state != "open":
            draft.failed = True
            raise Failed
        draft.state = "resolving"
        try:
            values = {name: self._field(found) for name, found in draft.fields.items()}
            draft.built = build_config(draft, values, self._problems)
            self._places[id(draft.built)] = draft.path
        except Failed:
            draft.failed = True
            raise
        finally:
            draft.state = "done"
        if draft.failed:
            raise Failed
        return draft.built

    def _field(self, found: Any) -> Any:
        if isinstance(found, Cell):
            return self.value(found)
        if isinstance(found, Draft):
            return self.config(found)
        if isinstance(found, Part):
            return self.component(found)
        if isinstance(found, dict):
            return {name: self.component(part) for name, part in found.items()}
        if isinstance(found, Link) and found.reference is not None:
            return Artifact(reference=found.reference, kind=found.kind, path=found.folder)
        return None

    def _as_input(self, value: Any) -> Any:
        """What a derivation was given, as plain values; a config by the place of its table."""
        if id(value) in self._places:
            return key_text(self._places[id(value)])
        return plain(attrs.asdict(value) if attrs.has(type(value)) else value)

    def component(self, part: Part) -> Component:
        """A component with its config and slot."""
        return Component(
            kind=part.kind,
            name=part.name,
            use=part.use,
            revision=part.revision,
            config=self.config(part.config),
            slot=self.config(part.slot) if part.slot is not None else None,
        )
