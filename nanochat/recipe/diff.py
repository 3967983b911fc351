"""What differs between two recipes, or two runs, in the groups that matter to who compares experiments.

In: two sides: a resolved recipe and, for a run, its measured figures. Out: differences by group: identity (changes
results), execution (does not), derived (follows from others), data, plugins, metrics. Not here: how they are printed.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import attrs

from nanochat.recipe.notation import key_text
from nanochat.recipe.resolved import KeyPath, Recipe, Value

Group = Literal["identity", "execution", "derived", "data", "plugins", "metrics"]
GROUPS: tuple[Group, ...] = ("identity", "execution", "derived", "data", "plugins", "metrics")
_NAMES_ITSELF: KeyPath = ("name",)
"""Two recipes are called differently without being different."""


@attrs.frozen(kw_only=True)
class Side:
    """One of the two things compared."""

    label: str
    recipe: Recipe
    derived: frozenset[str] = frozenset()
    """A run: the keys that its lock says were derived, which the lock itself has as plain values."""
    versions: Mapping[str, str] = attrs.field(factory=dict)
    """Distribution → version; empty values where it is not known."""
    figures: Mapping[str, float] = attrs.field(factory=dict)
    """A run: "stage.figure" → value."""


@attrs.frozen(kw_only=True)
class Difference:
    """One value that differs, or with `everything` one that is the same. None: it is not there."""

    group: Group
    key: str
    a: Any
    b: Any
    origin_a: str = ""
    origin_b: str = ""

    @property
    def same(self) -> bool:
        """Whether both sides have it alike."""
        return _alike(self.a, self.b)

    @property
    def ratio(self) -> float | None:
        """b over a, where both are numbers and that says something."""
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (self.a, self.b))
        return self.b / self.a if numbers and self.a and not self.same else None


def diff(a: Side, b: Side, *, everything: bool = False) -> list[Difference]:
    """All differences, in the order of GROUPS, then of the recipes. everything: also what is the same."""
    found = [*_values(a, b), *_data(a, b), *_plugins(a, b), *_metrics(a, b)]
    kept = [difference for difference in found if everything or not difference.same]
    return sorted(kept, key=lambda difference: GROUPS.index(difference.group))


def _values(a: Side, b: Side) -> Iterator[Difference]:
    for path in _union(a.recipe.values, b.recipe.values):
        if path == _NAMES_ITSELF:
            continue
        left, right = a.recipe.values.get(path), b.recipe.values.get(path)
        yield Difference(
            group=_group(path, a, b),
            key=key_text(path),
            a=left.value if left else None,
            b=right.value if right else None,
            origin_a=str(left.origin) if left else "",
            origin_b=str(right.origin) if right else "",
        )


def _group(path: KeyPath, a: Side, b: Side) -> Group:
    """Derived only where neither side set it: what one side sets by hand is a choice."""
    there = [(side, leaf) for side in (a, b) if (leaf := side.recipe.values.get(path)) is not None]
    if all(_derived(leaf, path, side) for side, leaf in there):
        return "derived"
    return "identity" if any(leaf.identity for _, leaf in there) else "execution"


def _derived(leaf: Value, path: KeyPath, side: Side) -> bool:
    return leaf.origin.kind == "derived" or key_text(path) in side.derived


def _data(a: Side, b: Side) -> Iterator[Difference]:
    left, right = _prints(a), _prints(b)
    for path in _union(left, right):
        facts_a, facts_b = left.get(path, {}), right.get(path, {})
        for name in _union(facts_a, facts_b):
            yield Difference(group="data", key=f"{key_text(path)}: {name}", a=facts_a.get(name), b=facts_b.get(name))


def _prints(side: Side) -> dict[KeyPath, Mapping[str, Any]]:
    return {path: found for stage in side.recipe.stages.values() for path, found in stage.fingerprints.items()}


def _plugins(a: Side, b: Side) -> Iterator[Difference]:
    revisions_a, revisions_b = _revisions(a), _revisions(b)
    for key in _union(revisions_a, revisions_b):
        if key in revisions_a and key in revisions_b:  # else its `use` differs, and that is said
            yield Difference(group="plugins", key=key, a=revisions_a[key], b=revisions_b[key])
    for name in _union(a.versions, b.versions):
        yield Difference(group="plugins", key=name, a=a.versions.get(name), b=b.versions.get(name))


def _revisions(side: Side) -> dict[str, int]:
    found: dict[str, int] = {}
    for stage in side.recipe.stages.values():
        found[f"stage {stage.use}: revision"] = stage.revision
        for kind, use, revision, _ in stage.components.values():
            found[f"{kind} {use}: revision"] = revision
    return found


def _metrics(a: Side, b: Side) -> Iterator[Difference]:
    if not (a.figures and b.figures):
        return
    for key in _union(a.figures, b.figures):
        yield Difference(group="metrics", key=key, a=a.figures.get(key), b=b.figures.get(key))


def _union(a: Mapping[Any, Any], b: Mapping[Any, Any]) -> list[Any]:
    """The keys of both, in a's order, then b's."""
    return list(dict.fromkeys([*a, *b]))


def _alike(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)
