"""`[sweep]` of a recipe: which keys take which values in the trials of a sweep.

In: the merged tree. Out: axes and ranges whose nodes know their places, and the problems of what is none: no values
(E104), no range of numbers (E104), a value where a table belongs (E103), a key that is given twice or is of no stage
(E115), a last stage that is not there (E110). Whether a recipe has such keys is seen when a trial is loaded. The types
of the table's own keys are checked by the schema.
"""

import math
from collections.abc import Iterator, Sequence

import attrs

from nanochat.errors import Location, did_you_mean
from nanochat.recipe.axis import OF_NO_STAGE, Axis, Change, Range, is_of_no_stage, item_node, tree_at
from nanochat.recipe.header import Sweep
from nanochat.recipe.notation import described, key_text, shown, value_text
from nanochat.recipe.problems import Problems
from nanochat.recipe.resolved import KeyPath
from nanochat.recipe.source import parse_key
from nanochat.recipe.tree import Later, Leaf, Node, Table, merge

SWEEP, VARIANT, UNSET, STAGES = "sweep", "variant", "unset", "stages"
EXAMPLE = '"stages.base.model.depth" = [4, 6, 8]'


@attrs.frozen(kw_only=True)
class SweepTable:
    """What `[sweep]` says."""

    axes: Sequence[Axis] = ()
    """The variants first, where there are any, then the grid's keys, as written."""
    ranges: Sequence[Range] = ()
    draws: int = Sweep().draws
    until: str | None = None


def sweep_table(tree: Table, problems: Problems) -> SweepTable:
    """Read `[sweep]`; empty where the recipe has none."""
    table = tree.items.get(SWEEP)
    if not isinstance(table, Table):
        return SweepTable()
    reader = _Reader(problems)
    variants = reader.variants(_table(table, "variants"))
    axes = [*([variants] if variants is not None else []), *reader.grid(_table(table, "grid"))]
    draws, until = (table.items.get(name) for name in ("draws", "until"))
    ranges = reader.ranges(_table(table, "random"))
    reader.check_until(until, tree)
    return SweepTable(
        axes=axes,
        ranges=ranges,
        draws=draws.value if isinstance(draws, Leaf) and type(draws.value) is int else Sweep().draws,
        until=until.value if isinstance(until, Leaf) and isinstance(until.value, str) else None,
    )


def _table(table: Table, name: str) -> Table | None:
    found = table.items.get(name)
    return found if isinstance(found, Table) else None


class _Reader:
    """Reads the tables within; a key has its values once."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._taken: dict[KeyPath, str] = {}
        """Keys that have their values, and in which table."""

    def variants(self, table: Table | None) -> Axis | None:
        """Each named set of values is one change."""
        if table is None or self._is_empty(table, "variants"):
            return None
        found = [self._variant(name, node) for name, node in table.items.items()]
        return Axis(VARIANT, [change for change in found if change is not None])

    def grid(self, table: Table | None) -> list[Axis]:
        """A key's values, one after another."""
        if table is None or self._is_empty(table, "grid"):
            return []
        found = []
        for path, leaf in self._leaves(table, (SWEEP, "grid")):
            key, values = key_text(path), leaf.value
            if not isinstance(values, list):
                message = f"{SWEEP}.grid: `{key}` is {described(values)}, not an array of values"
                self._problems.add("E103", message, at=leaf.place, label=f"[{value_text(values)}]")
            elif not values:
                self._problems.add("E104", f"{SWEEP}.grid: `{key}` has no values", at=leaf.place, label=EXAMPLE)
            elif self._is_new(path, "grid", leaf.key):
                nodes = {value_text(value): item_node(leaf, index) for index, value in enumerate(values)}
                found.append(
                    Axis(key, [Change(text=f"{key}={text}", values=tree_at(path, n)) for text, n in nodes.items()])
                )
        return found

    def ranges(self, table: Table | None) -> list[Range]:
        """A key's lowest and highest number."""
        if table is None or self._is_empty(table, "random"):
            return []
        found = []
        for path, leaf in self._leaves(table, (SWEEP, "random")):
            key, ends = key_text(path), leaf.value
            fault = _range_fault(ends)
            if fault:
                self._problems.add("E104", f"{SWEEP}.random: `{key}` {fault}", at=leaf.place, label="[low, high]")
            elif self._is_new(path, "random", leaf.key):
                whole = all(type(end) is int for end in ends)
                found.append(Range(key=key, low=ends[0], high=ends[1], whole=whole, leaf=leaf, path=path))
        return found

    def check_until(self, node: Node | None, tree: Table) -> None:
        """The last stage is one of the recipe's, or one that the trials bring."""
        if not isinstance(node, Leaf) or not isinstance(node.value, str):
            return
        stages = tree.items.get(STAGES)
        brought = [path[1] for path in self._taken if path[0] == STAGES and len(path) > 1]
        known = list(dict.fromkeys([*(stages.items if isinstance(stages, Table) else []), *brought]))
        if node.value not in known:
            message = f"{SWEEP}.until: there is no stage {shown(node.value)}"
            help_ = did_you_mean(node.value, known) or f"stages: {', '.join(known) or 'none'}"
            self._problems.add("E110", message, at=node.place, help=help_)

    def _variant(self, name: str, node: Node) -> Change | None:
        if not isinstance(node, Table):
            message = (
                f"{SWEEP}.variants: {shown(name)} is {described(node.value)}, not a table of keys and their values"
            )
            self._problems.add("E103", message, at=node.place)
            return None
        if not name.strip() or not name.isprintable():
            self._problems.add("E104", f"{SWEEP}.variants: {shown(name)} is no name to show", at=node.location)
            return None
        items = dict(node.items)
        unset = self._unset(items.pop(UNSET, None))
        values = Table(items={}, location=None, base=node.base)
        for key, item in items.items():
            path = self._path(key, (SWEEP, "variants", name), item)
            if path:
                values = merge(values, tree_at(path, item))
        for path in _leaf_paths((), values):
            self._taken.setdefault(path, f"the variant {shown(name)}")
        return Change(text=f"{VARIANT}={name}", values=values, unset=unset)

    def _unset(self, node: Node | None) -> dict[KeyPath, Location]:
        if node is None:
            return {}
        if not (isinstance(node, Leaf) and isinstance(node.value, list) and all(type(k) is str for k in node.value)):
            self._problems.add("E103", f"{UNSET} of a variant is an array of keys", at=node.place)
            return {}
        found = {}
        for index, key in enumerate(node.value):
            path = parse_key(key)
            if path is None:
                self._problems.add("E108", f"{shown(key)} is no key", at=node.place_of((index,)))
            else:
                found[path] = node.place_of((index,))
        return found

    def _leaves(self, table: Table, above: KeyPath, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Leaf]]:
        """The arrays below, however the keys above them are written."""
        for name, node in table.items.items():
            inner = self._path(name, above, node)
            if not inner:
                continue
            if isinstance(node, Table):
                yield from self._leaves(node, above, (*path, *inner))
            elif not isinstance(node.value, Later):
                yield (*path, *inner), node

    def _path(self, name: str, above: KeyPath, node: Node) -> KeyPath:
        """A key's words; none where it was reported."""
        path = parse_key(name)
        if path is None:
            place = node.key if isinstance(node, Leaf) else node.location
            self._problems.add("E102", f"{shown(name)} in {key_text(above)} is no key of a recipe", at=place)
        return path or ()

    def _is_new(self, path: KeyPath, table: str, place: Location) -> bool:
        if is_of_no_stage(path):
            message = f"{SWEEP}.{table}: `{key_text(path)}` {OF_NO_STAGE}"
            self._problems.add("E115", message, at=place, help=f"vary a key of a stage, or the seed: {EXAMPLE}")
            return False
        if path in self._taken:
            message = f"{SWEEP}.{table}: `{key_text(path)}` has its values already, in {self._taken[path]}"
            self._problems.add("E115", message, at=place, help="give each key once")
            return False
        self._taken[path] = f"{SWEEP}.{table}"
        return True

    def _is_empty(self, table: Table, name: str) -> bool:
        if not table.items:
            self._problems.add("E104", f"{SWEEP}.{name} is empty", at=table.location, label=f"for example {EXAMPLE}")
        return not table.items


def _range_fault(ends: object) -> str:
    """What is wrong with [low, high], or nothing."""
    if not isinstance(ends, list) or len(ends) != 2 or not all(type(end) in (int, float) for end in ends):
        return f"is {described(ends)}, not [low, high]"
    if not all(math.isfinite(end) for end in ends):
        return f"is {shown(ends)}, but both ends must be finite"
    return "" if ends[0] < ends[1] else f"is {shown(ends)}, but the first must be below the second"


def _leaf_paths(path: KeyPath, table: Table) -> Iterator[KeyPath]:
    for name, item in table.items.items():
        if isinstance(item, Table):
            yield from _leaf_paths((*path, name), item)
        else:
            yield (*path, name)
