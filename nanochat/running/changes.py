"""What differs between a stage as planned and the nearest other result of its name, field by field.

In: a stage, its recipe's keys, the store. Out: changes, each with the place of its new value. They explain a plan; what
decides it are the keys.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from nanochat.recipe.assemble import facts_apart
from nanochat.recipe.notation import fact_text, plain, value_text
from nanochat.recipe.resolved import Recipe, Stage
from nanochat.running.json_file import read_json
from nanochat.running.keys import input_keys
from nanochat.running.store import CONFIG, Store


@attrs.frozen(kw_only=True)
class Change:
    """One difference to another result of the same stage name."""

    field: str
    """Path below the stage: `model.depth`."""
    old: str
    new: str
    origin: str = ""
    """Where the new value stands; of what is gone, the stage that no longer has it."""

    @property
    def text(self) -> str:
        """What became of the field."""
        return f"{self.old} → {self.new}" if self.old or self.new else "changed"

    def __str__(self) -> str:
        change = f"{self.field} {self.text}"
        return f"{change} ({self.origin})" if self.origin else change


def nearest_other(
    stage: Stage, recipe: Recipe, keys: Mapping[str, str], store: Store
) -> tuple[str, tuple[Change, ...]] | None:
    """The other result of a recipe and stage of these names that differs least: what it is called, and how it differs.

    A finished one goes before one that is not, the newest before those that differ as much.
    """
    now = description_of(stage, recipe, keys)
    best: tuple[tuple[bool, int], str, tuple[Change, ...]] | None = None
    for folder in store:
        described = read_json(folder.path / CONFIG) or {}
        named_alike = described.get("stage") == stage.name and described.get("recipe") == recipe.name
        if not named_alike or folder.key == keys[stage.name]:
            continue
        changes = tuple(changes_between(described, now, stage, recipe))
        rank = (folder.record is None, len(changes))
        if best is None or rank < best[0]:
            unfinished = " (not finished)" if folder.record is None else ""
            best = (rank, folder.path.name + unfinished, changes)
    return best[1:] if best else None


def description_of(stage: Stage, recipe: Recipe, keys: Mapping[str, str]) -> dict[str, Any]:
    """What a stage's config.json holds: all that its key was made from, and its names."""
    return {
        "recipe": recipe.name,
        "stage": stage.name,
        **stage.identity(seed=recipe.seed),
        "inputs": input_keys(stage, keys),
        "produces": stage.produces,
    }


def changes_between(old: Mapping[str, Any], new: Mapping[str, Any], stage: Stage, recipe: Recipe) -> Iterator[Change]:
    """Field by field, what differs between two descriptions. A table whose `use` changed is one change."""
    for field in ("use", "revision", "seed"):
        if old.get(field) != new.get(field):
            origin = str(recipe.values["seed",].origin) if field == "seed" else ""
            yield Change(field=field, old=_text(old.get(field)), new=_text(new.get(field)), origin=origin)
    before, after = _values(old), _values(new)
    tables = [field.removesuffix(".use") for field in {**after, **before} if field.endswith(".use")]
    changed = [table for table in tables if before.get(f"{table}.use") != after.get(f"{table}.use")]
    changed = [table for table in changed if not _is_below(table, [other for other in changed if other != table])]
    for table in changed:
        uses = (before.get(f"{table}.use"), after.get(f"{table}.use"))
        shown = ["nothing" if use is None else str(use) for use in uses]
        yield Change(field=table, old=shown[0], new=shown[1], origin=_origin(stage, f"{table}.use"))
    for kind in ("values", "components", "data", "inputs"):
        left, right = old.get(kind) or {}, new[kind]
        for field in dict.fromkeys([*right, *left]):
            if left.get(field) != right.get(field) and not _is_below(field, changed):
                yield from _changes(kind, field, left, right, stage)


def _values(described: Mapping[str, Any]) -> Mapping[str, Any]:
    return described.get("values") or {}


def _is_below(field: str, tables: Sequence[str]) -> bool:
    return any(field == table or field.startswith(f"{table}.") for table in tables)


def _changes(
    kind: str, field: str, before: Mapping[str, Any], after: Mapping[str, Any], stage: Stage
) -> Iterator[Change]:
    if kind == "inputs":
        yield Change(field=field, old="", new="", origin=_input_name(stage, field))
    elif kind == "data":
        left, right = facts_apart(before.get(field) or {}), facts_apart(plain(after.get(field) or {}))
        for fact in dict.fromkeys([*right, *left]):
            if left.get(fact) != right.get(fact):
                yield Change(field=f"{field}: {fact}", old=fact_text(left.get(fact)), new=fact_text(right.get(fact)))
    elif kind == "components":
        yield Change(field=field, old=_component(before.get(field)), new=_component(after.get(field)))
    else:
        leaf = stage.values.get(("stages", stage.name, *field.split(".")))
        # A value equal to its default is left out of an identity.
        usual = "the default" if leaf is None or leaf.usual is None else f"the default {_text(leaf.usual)}"
        yield Change(
            field=field,
            old=_text(before[field]) if field in before else usual,
            new=_text(after[field]) if field in after else usual if leaf is not None else "nothing",
            origin=_origin(stage, field),
        )


def _origin(stage: Stage, field: str) -> str:
    leaf = stage.values.get(("stages", stage.name, *field.split(".")))
    if leaf is None:  # what is gone is nowhere; the stage that it is gone from is somewhere
        return f"no longer in {stage.location}" if stage.location is not None else ""
    return str(leaf.origin)


def _input_name(stage: Stage, field: str) -> str:
    leaf = stage.values.get(("stages", stage.name, *field.split(".")))
    return str(leaf.value) if leaf is not None else ""


def _component(found: Any) -> str:
    if found is None:
        return "nothing"
    _, use, revision, distribution = found
    return f"{use} (revision {revision} of {distribution})"


def _text(value: Any) -> str:
    text = value_text(value)
    return text if len(text) <= 40 else text[:37] + "…"
