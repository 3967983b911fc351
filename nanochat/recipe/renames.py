"""Which stages of two recipes are the same ones under other names.

In: two recipes. Out: the name in the second → the name in the first. Stages of one name are the same; of the others,
two that use one component and agree in most of what they declare are taken for a stage that was renamed.
"""

from collections.abc import Mapping

from nanochat.recipe.resolved import Recipe, Stage

ALIKE = 0.5
"""Share of the declared values in which a renamed stage agrees with what it was."""


def renamed_stages(a: Recipe, b: Recipe) -> Mapping[str, str]:
    """Stages of `b` that are `a`'s under another name, the most alike first."""
    gone = [stage for name, stage in a.stages.items() if name not in b.stages]
    new = [stage for name, stage in b.stages.items() if name not in a.stages]
    pairs = [(_likeness(old, other), old.name, other.name) for old in gone for other in new if old.use == other.use]
    found: dict[str, str] = {}
    for likeness, old_name, new_name in sorted(pairs, key=lambda pair: -pair[0]):
        if likeness >= ALIKE and new_name not in found and old_name not in found.values():
            found[new_name] = old_name
    return found


def _likeness(a: Stage, b: Stage) -> float:
    """0 … 1: how many of the values that either of them declares are the same. What a default says does not count."""
    left, right = _declared(a), _declared(b)
    keys = {*left, *right}
    return sum(left.get(key) == right.get(key) for key in keys) / len(keys) if keys else 1.0


def _declared(stage: Stage) -> dict[tuple[str, ...], object]:
    chosen = {path: leaf for path, leaf in stage.values.items() if not leaf.default and leaf.origin.kind != "derived"}
    return {path[2:]: leaf.value for path, leaf in chosen.items()}
