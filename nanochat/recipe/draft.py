"""Configs in the making: what the recipe's tables mean to their config classes, before values are filled in.

Made by `nanochat.recipe.schema` from the tree and the registry; completed by `nanochat.recipe.derive`. Drafts are
mutable and compared by identity: a derivation may ask for any of them, in any order.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union

import attrs

from nanochat.config import Rules
from nanochat.errors import Location
from nanochat.recipe.resolved import KeyPath, Origin
from nanochat.recipe.tree import Leaf


@attrs.define(eq=False, kw_only=True)
class Cell:
    """One option of one table."""

    path: KeyPath
    kind: Any
    """Its annotation."""
    rules: Rules
    default: Any
    """attrs.NOTHING where there is none."""
    leaf: Leaf | None
    """As written, if it is."""
    owner: "Draft"
    state: Literal["open", "resolving", "done", "failed"] = "open"
    value: Any = None
    origin: Origin | None = None

    @property
    def place(self) -> Location | None:
        """Where an error about it is shown."""
        return self.leaf.place if self.leaf is not None else self.owner.location


@attrs.define(eq=False, kw_only=True)
class Link:
    """A reference to an artifact; None as reference where an optional one is absent or a wrong one was reported."""

    path: KeyPath
    kind: str
    """tokenizer, checkpoint or figures."""
    leaf: Leaf | None
    reference: str | None
    folder: Path | None = None
    """path, store: where it lies."""
    failed: bool = False
    """What is written there is no reference, which was reported."""
    stage: "StageDraft | None" = None
    """stage: the one that makes it."""


@attrs.define(eq=False, kw_only=True)
class Part:
    """A component: a table with `use`."""

    path: KeyPath
    kind: str
    name: str
    use: str
    use_leaf: Leaf
    revision: int
    distribution: str
    location: Location | None
    config: "Draft"
    slot: "Draft | None" = None


Field = Union[Cell, Link, Part, "Draft", dict[str, Part], None]


@attrs.define(eq=False, kw_only=True)
class Draft:
    """One config object in the making."""

    path: KeyPath
    cls: type
    location: Location | None
    part: Part | None = None
    """The component whose config or slot it is (or belongs to)."""
    stage: "StageDraft | None" = None
    fields: dict[str, Field] = attrs.field(factory=dict)
    failed: bool = False
    """Something in it was reported: it cannot be built, and nothing more is said of it."""
    lost: set[str] = attrs.field(factory=set)
    """Fields with components of which something was reported that leaves nothing to look at."""
    state: Literal["open", "resolving", "done"] = "open"
    built: Any = None

    def parts(self) -> Iterator[Part]:
        """Every component below it, nested ones included."""
        for found in self.fields.values():
            direct = found.values() if isinstance(found, dict) else [found] if isinstance(found, Part) else []
            for part in direct:
                yield part
                yield from part.config.parts()
            if isinstance(found, Draft):
                yield from found.parts()

    def drafts(self) -> Iterator["Draft"]:
        """Itself and every draft below it, slots and nested tables included."""
        yield self
        for found in self.fields.values():
            direct = found.values() if isinstance(found, dict) else [found] if isinstance(found, Part) else []
            for part in direct:
                yield from part.config.drafts()
                if part.slot is not None:
                    yield from part.slot.drafts()
            if isinstance(found, Draft):
                yield from found.drafts()

    def cells(self) -> Iterator[Cell]:
        """Every option in it, in the order of the classes."""
        for draft in self.drafts():
            yield from (found for found in draft.fields.values() if isinstance(found, Cell))

    def links(self) -> Iterator[Link]:
        """Every artifact reference in it."""
        for draft in self.drafts():
            yield from (found for found in draft.fields.values() if isinstance(found, Link))


@attrs.define(eq=False, kw_only=True)
class StageDraft:
    """One stage in the making."""

    name: str
    use: str
    use_leaf: Leaf
    revision: int
    distribution: str
    produces: str
    numeric: bool
    """The compute dtype changes its result."""
    seeded: bool
    """The recipe's seed changes its result."""
    launcher: str
    """The distribution of its launcher; empty where that is not known."""
    location: Location | None
    config: Draft
    hardware: Draft
    groups: dict[KeyPath, dict[str, Any]] = attrs.field(factory=dict)
    """Optimizer groups, once they are checked: the group's table → the parameters that it has, by name, with shapes."""
    in_circle: bool = False
    """It needs itself, which was reported: nothing is derived across it."""

    def sources(self) -> list["StageDraft"]:
        """The stages whose artifacts it uses, each once."""
        found: dict[str, StageDraft] = {}
        for link in self.config.links():
            if link.stage is not None:
                found.setdefault(link.stage.name, link.stage)
        return list(found.values())


@attrs.define(eq=False, kw_only=True)
class RecipeDraft:
    """A whole recipe in the making."""

    header: Draft
    hardware: Draft
    stages: dict[str, StageDraft]
    lost: list[str] = attrs.field(factory=list)
    """Stages of which something was reported that leaves nothing to look at, such as a misspelt `use`."""
    meant: set[KeyPath] = attrs.field(factory=set)
    """What reported unknown keys were probably meant to be: it is not said to be missing as well."""

    def drafts(self) -> list[Draft]:
        """The draft of every table that stands alone."""
        alone = [self.header, self.hardware]
        for stage in self.stages.values():
            alone += [stage.config, stage.hardware]
        return alone
