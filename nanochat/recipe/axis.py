"""What a recipe is varied by: a change of it, the changes that one key takes, and the numbers that it is drawn from.

In: nodes of a recipe's tree, or words as `--set` takes them. Out: trees to be merged over the recipe. Not here: how
`[sweep]` is read (`nanochat.recipe.sweep_table`), how `--grid` is, and which combinations there are.
"""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from nanochat.errors import Location
from nanochat.recipe.notation import key_text
from nanochat.recipe.problems import Problems
from nanochat.recipe.resolved import KeyPath
from nanochat.recipe.source import take_away
from nanochat.recipe.tree import Leaf, Node, Table, merge

_HEAD = ("format", "extends", "name", "parent", "sweep", "trackers", "lock")
OF_NO_STAGE = "is of no stage: trials with other values of it are the same work"
FAR = 10.0
"""Ends that are so many times apart are those of a scale, such as a learning rate's."""


@attrs.frozen(kw_only=True)
class Change:
    """What sets a trial apart from its recipe, in one key or in several."""

    text: str
    """`KEY=VALUE`, as `--set` takes it; of a variant `variant=NAME`."""
    values: Table | None = None
    """What is merged over the recipe; None: what `text` says, which was typed."""
    unset: Mapping[KeyPath, Location] = attrs.field(factory=dict)
    """What is taken away before, and where that is said."""


@attrs.frozen
class Axis:
    """A key and the changes that it takes, one at a time."""

    key: str
    changes: Sequence[Change]


@attrs.frozen(kw_only=True)
class Range:
    """A key and the numbers between which its values are drawn, evenly in their logarithm where both are above 0 and
    far apart; whole numbers where both ends are.
    """

    key: str
    low: float
    high: float
    whole: bool
    leaf: Leaf | None = None
    """Where a recipe says it."""
    path: KeyPath = ()

    def draw(self, generator: random.Random) -> Change:
        """A value from [low, high]."""
        if self.low > 0 and self.high / self.low >= FAR:
            drawn = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        else:
            drawn = generator.uniform(self.low, self.high)
        drawn = min(max(drawn, self.low), self.high)
        text = str(round(drawn)) if self.whole else f"{drawn:.6g}"
        if self.leaf is None:
            return Change(text=f"{self.key}={text}")
        value = attrs.evolve(self.leaf, value=int(text) if self.whole else float(text), inner={})
        return Change(text=f"{self.key}={text}", values=tree_at(self.path, value))


def is_of_no_stage(path: KeyPath) -> bool:
    """Whether no stage depends on this key of the recipe's head, so that trials with other values are the same work."""
    return path[0] in _HEAD


def tree_at(path: KeyPath, node: Node) -> Table:
    """A tree with this node at this path and nothing else."""
    place = node.key if isinstance(node, Leaf) else node.location
    for number, name in enumerate(reversed(path), start=1):
        node = Table(items={name: node}, location=place if number < len(path) else None, base=node.base)
    assert isinstance(node, Table), key_text(path)
    return node


def item_node(leaf: Leaf, index: int) -> Node:
    """One item of an array as a node of its own, with its place."""
    return _part(leaf.value[index], leaf, (index,))


def _part(value: Any, leaf: Leaf, path: tuple[str | int, ...]) -> Node:
    place = leaf.place_of(path)
    if isinstance(value, dict):
        items = {name: _part(item, leaf, (*path, name)) for name, item in value.items()}
        return Table(items=items, location=place, base=leaf.base, value=place)
    inner = {found[len(path) :]: at for found, at in leaf.inner.items() if found[: len(path)] == path}
    return Leaf(value=value, location=place, key=place, base=leaf.base, written=leaf.written, inner=inner)


def changed(tree: Table, changes: Sequence[Change], over: Table, problems: Problems) -> Table:
    """The recipe's tree with all of the changes made at once; `over`: what was set or typed, merged first."""
    for change in changes:
        for path, place in change.unset.items():
            tree = take_away(tree, path, place, problems, said="nothing in this recipe sets")
        over = merge(over, change.values) if change.values is not None else over
    return merge(tree, over)
