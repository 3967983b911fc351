"""The recipe as written, in one tree: tables of tables and leaves, every leaf with the place it was written at.

In: plain values beside the locator's spans. Out: tables, merged as the recipe language says: tables deeply, scalars and
arrays replaced, a changed `use` replacing its whole table. No type is checked here.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import attrs

from nanochat.errors import Location
from nanochat.recipe.locator import Mark, TextPath, locate
from nanochat.recipe.notation import plain

MOST_PLACES = 1_000
"""Of what a longer value holds only the first have places of their own; an error further on stands at the value."""
DEEPEST = 32
"""Tables nested deeper than this are refused."""


@attrs.frozen(kw_only=True)
class Later:
    """The value of a leaf that names another value (`{ from = "…" }`) which only defaults or derivations will give."""

    target: tuple[str, ...]
    """Empty: what is wrong with the value was reported."""


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
    inner: Mapping[TextPath, Location] = attrs.field(factory=dict, eq=False, repr=False)
    """Where what the value holds is written: items of arrays, values of tables, by their path in it."""

    @property
    def place(self) -> Location:
        """Where an error about it is shown."""
        return self.asked or self.location

    def place_of(self, path: TextPath) -> Location:
        """Where an error about something in the value is shown."""
        return self.place if self.asked is not None else self.inner.get(path, self.location)


@attrs.frozen(kw_only=True)
class Table:
    """A table. `location` is its header, or its key where it is written inline; None only for the root."""

    items: Mapping[str, "Node"]
    location: Location | None
    base: Path
    value: Location | None = None
    """The braces of one that is written inline."""

    @property
    def place(self) -> Location | None:
        """Where an error is shown about a table where none can stand."""
        return self.value or self.location


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
        key, written_at = place(span.key), place(span.value) if span.value is not None else None
        if isinstance(value, dict):
            items = {k: node((*path, k), v) for k, v in value.items()}
            return Table(items=items, location=key, base=base, value=written_at)
        inner = dict(islice(within(path, path, value), MOST_PLACES))
        return Leaf(value=value, location=written_at or key, key=key, base=base, written=written, inner=inner)

    def within(leaf: TextPath, path: TextPath, value: Any) -> Iterator[tuple[TextPath, Location]]:
        items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
        for name, item in items:
            found = (*path, name)
            mark = spans[found].value
            if mark is not None:
                yield found[len(leaf) :], place(mark)
            yield from within(leaf, found, item)

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
    placed = over if over.location is not None else under
    return Table(items=items, location=placed.location, base=over.base, value=placed.value)


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


def places_in(node: Node) -> Iterator[tuple[TextPath, Location]]:
    """Where each value below a node is written, by its path in it."""
    for name, item in node.items.items() if isinstance(node, Table) else ():
        place = item.place
        if place is not None:
            yield (name,), place
        inner = item.inner.items() if isinstance(item, Leaf) else places_in(item)
        yield from (((name, *path), found) for path, found in inner)


def as_plain(node: Node) -> Any:
    """The node as tomllib would give it; a broken `Later` where something in it was reported."""
    if isinstance(node, Table):
        items = {name: as_plain(item) for name, item in node.items.items()}
        return Later(target=()) if Later(target=()) in items.values() else items
    return plain(node.value)
