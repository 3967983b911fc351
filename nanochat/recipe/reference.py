"""`{ from = "stages.a.b" }`: tables and values taken from elsewhere in the same recipe.

In: the merged tree. Out: a tree without `from`. A copied table keeps the places of the original; keys beside `from` are
merged over the copy. A value that only a default or a derivation will give becomes a `Later` leaf, which is filled
when values are. Circles, dangling references and copies without end are E110.
"""

from typing import NoReturn

import attrs

from nanochat.errors import Location
from nanochat.recipe.notation import described, key_text, shown
from nanochat.recipe.problems import Problems
from nanochat.recipe.source import parse_key
from nanochat.recipe.tree import DEEPEST, Later, Leaf, Node, Table, merge

FROM = "from"
MOST_NODES = 50_000
"""Tables and leaves that a recipe may have after copying; a small file could otherwise copy itself without end."""

Path = tuple[str, ...]


def follow_references(tree: Table, problems: Problems) -> Table:
    """The tree with every `from` followed."""
    return _Expansion(tree, problems).root()


class _Broken(Exception):
    """A reference that was reported already; a `Later` without a target marks what asked for it."""


class _Expansion:
    """Expands tables on demand; each path once, so that a reference may name what itself has a `from`."""

    def __init__(self, tree: Table, problems: Problems) -> None:
        self._tree, self._problems = tree, problems
        self._done: dict[Path, Node] = {}
        self._lost: set[Path] = set()
        """What lies on the way of a reference that was reported."""
        self._active: list[Path] = []
        self._nodes = 0

    def root(self) -> Table:
        try:
            expanded = self._expand((), self._tree)
        except _Broken:
            expanded = None
        if not isinstance(expanded, Table):  # nothing can be said of a recipe that is itself a reference
            self._problems.add("E110", "a whole recipe is taken with `extends`, not with `from`", at=None)
            self._problems.raise_any()
            raise AssertionError
        return expanded

    def _expand(self, path: Path, node: Node, asked: Location | None = None) -> Node:
        """A node without `from` in or below it. `asked`: the reference that led here."""
        if isinstance(node, Leaf):
            return node
        if path in self._lost:
            raise _Broken
        if path in self._done:
            return self._done[path]
        origin = node.items.get(FROM)
        own = origin.location if isinstance(origin, Leaf) else node.location
        self._enter(path, asked or own)
        try:
            if origin is not None:
                node = self._taken(node, origin)
            if isinstance(node, Table):
                node = self._inside(path, node)
            self._done[path] = node
        except _Broken:
            self._lost.add(path)
            raise
        finally:
            self._active.pop()
        return node

    def _enter(self, path: Path, asked: Location | None) -> None:
        if path in self._active:
            circle = [key_text(p) for p in [*self._active[self._active.index(path) :], path] if p]
            self._refuse(f"tables take from each other in a circle: {' → '.join(circle)}", asked)
        if len(path) > DEEPEST or len(self._active) > 2 * DEEPEST:
            self._refuse("references lead too deep", asked)
        self._active.append(path)

    def _inside(self, path: Path, table: Table) -> Table:
        items: dict[str, Node] = {}
        for name, item in table.items.items():
            self._nodes += 1
            if self._nodes > MOST_NODES:
                self._refuse(f"references copy more than {MOST_NODES:,} values", table.location)
            try:
                items[name] = self._expand((*path, name), item)
            except _Broken:
                place = item.location or table.location
                assert place is not None
                items[name] = Leaf(value=Later(target=()), location=place, key=place, base=table.base)
        return attrs.evolve(table, items=items)

    def _taken(self, table: Table, origin: Node) -> Node:
        """The node that a table's `from` names, with the table's other keys merged over it."""
        target = self._target(origin)
        assert isinstance(origin, Leaf)
        own = {name: item for name, item in table.items.items() if name != FROM}
        found = self._find(target, origin.location)
        if isinstance(found, Table):
            return merge(found, attrs.evolve(table, items=own))
        if own:
            what = "nothing" if found is None else "a value"
            self._refuse(f"{key_text(target)} names {what}, so no other keys can stand beside `from`", origin.location)
        if found is None or found.value == "auto":
            # A default or a derived value is not written anywhere; the pass that fills values knows it.
            return Leaf(
                value=Later(target=target),
                location=origin.location,
                key=table.location or origin.key,
                base=table.base,
                written=origin.written,
                asked=origin.location,
            )
        return attrs.evolve(found, key=table.location or origin.key, asked=origin.location)

    def _target(self, origin: Node) -> Path:
        if not isinstance(origin, Leaf):
            self._refuse("`from` is a string that names a key, not a table", origin.place)
        if isinstance(origin.value, Later):
            raise _Broken
        if not isinstance(origin.value, str):
            self._refuse(f"`from` is a string that names a key, not {described(origin.value)}", origin.location)
        target = parse_key(origin.value)
        if target is None:
            self._refuse(f"{shown(origin.value)} is no key", origin.location)
        return target

    def _find(self, target: Path, asked: Location) -> Node | None:
        """The expanded node at a path, or None. Only tables on the way that have a `from` are expanded for it."""
        node: Node = self._tree
        for depth, name in enumerate(target, start=1):
            if isinstance(node, Table) and FROM in node.items:
                node = self._expand(target[: depth - 1], node, asked)
            if not isinstance(node, Table) or name not in node.items:
                return None
            node = node.items[name]
        return self._expand(target, node, asked)

    def _refuse(self, message: str, at: Location | None) -> NoReturn:
        self._problems.add("E110", message, at=at)
        raise _Broken
