"""Integers beyond 64 bits: TOML knows none, tomllib reads them all the same.

In: a file's or an argument's tree. Out: E106 for each, and the tree with what stands for a reported value in its place,
so that everything else in the file is looked at.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from nanochat.recipe.locator import TextPath
from nanochat.recipe.problems import Problems
from nanochat.recipe.tree import Later, Leaf, Node, Table

LEAST, GREATEST = -(2**63), 2**63 - 1


def check_integers(tree: Table, problems: Problems) -> Table:
    """The tree without integers that are too large."""
    return attrs.evolve(tree, items={name: _checked(node, problems) for name, node in tree.items.items()})


def _checked(node: Node, problems: Problems) -> Node:
    if isinstance(node, Table):
        return check_integers(node, problems)
    giants = list(_giants(node.value))
    for path in giants:
        at = node.place_of(path) if path else node.location
        message = f"{at.path} holds an integer beyond 64 bits"
        problems.add("E106", message, at=at, label=f"{LEAST} to {GREATEST}")
    return Leaf(value=Later(target=()), location=node.location, key=node.key, base=node.base) if giants else node


def _giants(value: Any, path: TextPath = ()) -> Iterator[TextPath]:
    """Where in a value they are. It was read, so it is nested no deeper than is allowed."""
    if isinstance(value, int) and not LEAST <= value <= GREATEST:
        yield path
    items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, Mapping) else ()
    for name, item in items:
        yield from _giants(item, (*path, name))
