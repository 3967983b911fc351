"""The recipe as written, in one tree: tables of tables and leaves, every leaf with the place it was written at.

In: plain values beside the locator's spans. Out: tables, merged as the recipe language says: tables deeply, scalars and
arrays replaced, a changed `use` replacing its whole table. No type is checked here.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from nanochat.errors import Location
from nanochat.recipe.locator import Mark, TextPath, locate
from nanochat.recipe.notation import plain

DEEPEST = 32
"""Tables nested deeper than this are refused."""


@attrs.frozen(kw_only=True)
class Later:
    """The value of a leaf that names another value (`{ from = "…" }`) which only defaults or derivations will give."""

    target: tuple[str, ...]
    """Empty: the reference is broken and was reported."""


@attrs.frozen(kw_only=True)
class Leaf:
    """A scalar or an array."""

    value: Any
    location: Location
    """Where the value is written: its origin."""
    key: Location
    """Where its key is written."""
    base: Path
    """The folder that a relative path in it starts from."""
    written: Literal["file", "set"] = "file"
    asked: Location | None = None
    """The `from` that copied it here."""

    @property
    def place(self) -> Location:
        """Where an error about it is shown."""
        return self.asked or self.location


@attrs.frozen(kw_only=True)
class Table:
    """A table. `location` is its header, or its key where it is written inline; None only for the root."""

    items: Mapping[str, "Node"]
    location: Location | None
    base: Path


Node = Leaf | Table


def build_tree(
    values: Mapping[str, Any],
    text: str,
    place: Callable[[Mark], Location],
    *,
    base: Path,
    written: Literal["file", "set"] = "file",
) -> Table:
    """The tree of a parsed text, each node with its place."""
    spans = locate(text)

    def node(path: TextPath, value: Any) -> Node:
        span = spans[path]
        assert span.key is not None
        key = place(span.key)
        if isinstance(value, dict):
            return Table(items={k: node((*path, k), v) for k, v in value.items()}, location=key, base=base)
        location = place(span.value or span.key)
        return Leaf(value=value, location=location, key=key, base=base, written=written)

    return Table(items={k: node((k,), v) for k, v in values.items()}, location=None, base=base)


def merge(under: Table, over: Table) -> Table:
    """`over` upon `under`. Keys keep the order in which they were first written."""
    if _use(under) is not None and _use(over) is not None and _use(under) != _use(over):
        return over
    items = dict(under.items)
    for name, node in over.items.items():
        below = items.get(name)
        if isinstance(below, Table) and isinstance(node, Table):
            node = merge(below, node)
        items[name] = node
    return Table(items=items, location=over.location or under.location, base=over.base)


def _use(table: Table) -> Any:
    use = table.items.get("use")
    return use.value if isinstance(use, Leaf) else None


def find(table: Table, path: tuple[str, ...]) -> Node | None:
    """The node at a path, or None."""
    node: Node | None = table
    for name in path:
        node = node.items.get(name) if isinstance(node, Table) else None
    return node


def without(table: Table, path: tuple[str, ...]) -> Table:
    """The table less one node that is in it."""
    first, rest = path[0], path[1:]
    items = dict(table.items)
    inner = items[first]
    if rest:
        assert isinstance(inner, Table)
        items[first] = without(inner, rest)
    else:
        del items[first]
    return attrs.evolve(table, items=items)


def as_plain(node: Node) -> Any:
    """The node as tomllib would give it."""
    if isinstance(node, Table):
        return {name: as_plain(item) for name, item in node.items.items()}
    return plain(node.value)
