"""What differs between recipes, or runs, in the groups that matter to who compares experiments.

In: two or more sides: a resolved recipe each and, for a run, its measured figures. Out: differences by group: identity
(changes results), execution (does not), derived (follows from others), data, plugins, metrics. A stage that was only
renamed is compared with what it was; a table whose `use` changed is one difference. Not here: how they are printed.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs

from nanochat.recipe.assemble import facts_apart
from nanochat.recipe.notation import key_text, plain
from nanochat.recipe.renames import renamed_stages
from nanochat.recipe.resolved import KeyPath, Recipe, Value
from nanochat.recipe.source import parse_key

Group = Literal["identity", "execution", "derived", "data", "plugins", "metrics"]
GROUPS: tuple[Group, ...] = ("identity", "execution", "derived", "data", "plugins", "metrics")
_NAMES_ITSELF: Sequence[KeyPath] = (("name",), ("parent",))
"""Two recipes are called differently, and come from elsewhere, without being different."""


@attrs.frozen(kw_only=True)
class Side:
    """One of the things compared."""

    label: str
    recipe: Recipe
    derived: frozenset[str] = frozenset()
    """A run: the keys that its lock says were derived, which the lock itself has as plain values."""
    versions: Mapping[str, str] = attrs.field(factory=dict)
    """Distribution → version; empty values where it is not known."""
    figures: Mapping[str, float] = attrs.field(factory=dict)
    """A run: "stage.figure" → value."""
    errors: Mapping[str, float] = attrs.field(factory=dict)
    """A run: "stage.figure" → standard error, of those that have one."""


@attrs.frozen(kw_only=True)
class Difference:
    """One value that differs, or with `everything` one that is the same. None: it is not there."""

    group: Group
    key: str
    values: tuple[Any, ...]
    """As each side has it. A table whose `use` differs: what is declared in it and not alike in all of them."""
    origins: tuple[str, ...] = ()
    errors: tuple[float | None, ...] = ()
    """metrics: the standard error of each value."""

    @property
    def same(self) -> bool:
        """Whether all sides have it alike."""
        return all(_alike(self.values[0], value) for value in self.values[1:])

    @property
    def ratio(self) -> float | None:
        """The second of two sides over the first, where both are numbers and that says something."""
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.values)
        if len(self.values) != 2 or not numbers or self.same or not self.values[0]:
            return None
        return float(self.values[1] / self.values[0])

    @property
    def deviations(self) -> float | None:
        """How many standard errors of the difference lie between two figures; below 2 says little."""
        if len(self.values) != 2 or None in (*self.values, *self.errors) or not self.errors:
            return None
        error = math.hypot(*(e for e in self.errors if e is not None))
        return abs(self.values[1] - self.values[0]) / error if error else None


def diff(sides: Sequence[Side], *, everything: bool = False) -> list[Difference]:
    """All differences, in the order of GROUPS, then of the recipes. everything: also what is the same."""
    renames = [renamed_stages(sides[0].recipe, side.recipe) for side in sides]
    views = [_View.of(side, names) for side, names in zip(sides, renames, strict=True)]
    folded = _changed_tables(views)
    found = [
        *_renamed(sides[0].recipe, renames),
        *_values(views, folded),
        *_data(views, folded),
        *_plugins(views),
        *_metrics(views),
    ]
    kept = [difference for difference in found if everything or not difference.same]
    return sorted(kept, key=lambda difference: GROUPS.index(difference.group))


@attrs.frozen(kw_only=True)
class _View:
    """A side under the stage names of the first one."""

    side: Side
    values: Mapping[KeyPath, Value]
    prints: Mapping[KeyPath, Mapping[str, Any]]
    revisions: Mapping[str, int]
    derived: frozenset[str]
    figures: Mapping[str, float]
    errors: Mapping[str, float]

    @classmethod
    def of(cls, side: Side, names: Mapping[str, str]) -> "_View":
        stages = side.recipe.stages.values()
        prints = {path: found for stage in stages for path, found in stage.fingerprints.items()}
        return cls(
            side=side,
            values={
                _renamed_path(path, names): _renamed_value(leaf, names) for path, leaf in side.recipe.values.items()
            },
            prints={_renamed_path(path, names): found for path, found in prints.items()},
            revisions=dict(_revisions(side)),
            derived=frozenset(key_text(_renamed_path(parse_key(key) or (), names)) for key in side.derived),
            figures={_renamed_figure(name, names): value for name, value in side.figures.items()},
            errors={_renamed_figure(name, names): value for name, value in side.errors.items()},
        )

    def declared(self, table: KeyPath) -> dict[str, Any] | None:
        """What was chosen in a table and below it, `use` first; None where the table is not there."""
        if (*table, "use") not in self.values:
            return None
        found: dict[str, Any] = {"use": self.values[(*table, "use")].value}
        for path, leaf in self.values.items():
            if path[: len(table)] == table and not leaf.default and not self.derives(path, leaf):
                inner = found
                for name in path[len(table) : -1]:
                    inner = inner.setdefault(name, {})
                inner[path[-1]] = leaf.value
        return found

    def derives(self, path: KeyPath, leaf: Value) -> bool:
        """Whether a rule gave the value; of a run, its lock says so."""
        return leaf.origin.kind == "derived" or key_text(path) in self.derived


# Stages under other names


def _renamed(first: Recipe, renames: Sequence[Mapping[str, str]]) -> Iterator[Difference]:
    for name in first.stages:
        values = tuple(next((new for new, old in names.items() if old == name), name) for names in renames)
        if len(set(values)) > 1:
            yield Difference(group="execution", key=f"stages.{name}: name", values=values)


def _renamed_path(path: KeyPath, names: Mapping[str, str]) -> KeyPath:
    return ("stages", names.get(path[1], path[1]), *path[2:]) if len(path) > 1 and path[0] == "stages" else path


def _renamed_value(leaf: Value, names: Mapping[str, str]) -> Value:
    prefix, _, stage = str(leaf.value).partition(":")
    renamed = leaf.reference and prefix == "stage" and stage in names
    return attrs.evolve(leaf, value=f"stage:{names[stage]}") if renamed else leaf


def _renamed_figure(figure: str, names: Mapping[str, str]) -> str:
    stage, dot, rest = figure.partition(".")
    return f"{names.get(stage, stage)}{dot}{rest}"


# Values


def _changed_tables(views: Sequence[_View]) -> list[KeyPath]:
    """The outermost tables whose `use` is not the same on all sides, or which not all of them have."""
    found: list[KeyPath] = []
    for path in _union(*(view.values for view in views)):
        if path[-1] != "use" or _is_below(path, found):
            continue
        uses = [view.values[path].value if path in view.values else None for view in views]
        if len(set(uses)) > 1:
            found = [table for table in found if table[: len(path) - 1] != path[:-1]]
            found.append(path[:-1])
    return found


def _is_below(path: KeyPath, tables: Sequence[KeyPath]) -> bool:
    return any(path[: len(table)] == table for table in tables)


def _values(views: Sequence[_View], folded: Sequence[KeyPath]) -> Iterator[Difference]:
    waiting = list(folded)
    for path in _union(*(view.values for view in views)):
        table = next((table for table in waiting if path[: len(table)] == table), None)
        if table is not None:
            waiting.remove(table)
            use = (*table, "use")
            yield Difference(
                group=_group(use, views),
                key=key_text(table),
                values=_apart([view.declared(table) for view in views]),
                origins=_origins(use, views),
            )
        elif path not in _NAMES_ITSELF and not _is_below(path, folded):
            yield Difference(
                group=_group(path, views),
                key=key_text(path),
                values=tuple(view.values[path].value if path in view.values else None for view in views),
                origins=_origins(path, views),
            )


def _apart(tables: Sequence[dict[str, Any] | None]) -> tuple[dict[str, Any] | None, ...]:
    """Tables without what all of them say alike."""
    if None in tables:
        return tuple(tables)
    there = [table for table in tables if table is not None]
    alike = [name for name in there[0] if all(_alike(there[0][name], table.get(name)) for table in there)]
    return tuple({name: value for name, value in table.items() if name not in alike} for table in there)


def _origins(path: KeyPath, views: Sequence[_View]) -> tuple[str, ...]:
    return tuple(str(view.values[path].origin) if path in view.values else "" for view in views)


def _group(path: KeyPath, views: Sequence[_View]) -> Group:
    """Derived only where no side set it: what one side sets by hand is a choice."""
    there = [(view, view.values[path]) for view in views if path in view.values]
    if all(view.derives(path, leaf) for view, leaf in there):
        return "derived"
    return "identity" if any(leaf.identity for _, leaf in there) else "execution"


# Data, plugins, metrics


def _data(views: Sequence[_View], folded: Sequence[KeyPath]) -> Iterator[Difference]:
    for path in _union(*(view.prints for view in views)):
        if _is_below(path, folded):
            continue
        facts = [facts_apart(plain(dict(view.prints.get(path, {})))) for view in views]
        for name in _union(*facts):
            values = tuple(found.get(name) for found in facts)
            yield Difference(group="data", key=f"{key_text(path)}: {name}", values=values)


def _plugins(views: Sequence[_View]) -> Iterator[Difference]:
    for key in _union(*(view.revisions for view in views)):
        if all(key in view.revisions for view in views):  # else a `use` differs, and that is said
            yield Difference(group="plugins", key=key, values=tuple(view.revisions[key] for view in views))
    for name in _union(*(view.side.versions for view in views)):
        yield Difference(group="plugins", key=name, values=tuple(view.side.versions.get(name) for view in views))


def _revisions(side: Side) -> Iterator[tuple[str, int]]:
    for stage in side.recipe.stages.values():
        yield f"stage {stage.use}: revision", stage.revision
        for kind, use, revision, _ in stage.components.values():
            yield f"{kind} {use}: revision", revision


def _metrics(views: Sequence[_View]) -> Iterator[Difference]:
    if sum(bool(view.figures) for view in views) < 2:
        return
    for key in _union(*(view.figures for view in views)):
        values = tuple(view.figures.get(key) for view in views)
        yield Difference(group="metrics", key=key, values=values, errors=tuple(v.errors.get(key) for v in views))


def _union(*tables: Mapping[Any, Any]) -> list[Any]:
    """The keys of all, in the order of the first, then what the others add."""
    return list(dict.fromkeys(key for table in tables for key in table))


def _alike(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)
