"""What differs between a stage as planned and the newest other result of its name, field by field.

In: a stage, its recipe's keys, the store. Out: changes, each with the place of its new value. They explain a plan; what
decides it are the keys.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from nanochat.recipe.resolved import Recipe, Stage
from nanochat.running.json_file import read_json
from nanochat.running.keys import input_keys
from nanochat.running.store import CONFIG, StageFolder, Store


@attrs.frozen(kw_only=True)
class Change:
    """One difference to the newest other result of the same stage name."""

    field: str
    """Path below the stage: `model.depth`."""
    old: str
    new: str
    origin: str = ""
    """Where the new value stands."""

    @property
    def text(self) -> str:
        """What became of the field."""
        return f"{self.old} → {self.new}" if self.old or self.new else "changed"

    def __str__(self) -> str:
        change = f"{self.field} {self.text}"
        return f"{change} ({self.origin})" if self.origin else change


def newest_other(stage: Stage, key: str, recipe: Recipe, store: Store) -> StageFolder | None:
    """The newest result, finished or not, of a recipe and stage of these names and with another key."""
    for folder in store:
        described = read_json(folder.path / CONFIG) or {}
        named_alike = described.get("stage") == stage.name and described.get("recipe") == recipe.name
        if named_alike and folder.key != key:
            return folder
    return None


def description_of(stage: Stage, recipe: Recipe, keys: Mapping[str, str]) -> dict[str, Any]:
    """What a stage's config.json holds: all that its key was made from, and its names."""
    return {
        "recipe": recipe.name,
        "stage": stage.name,
        **stage.identity(seed=recipe.seed),
        "inputs": input_keys(stage, keys),
        "produces": stage.produces,
    }


def changes_since(other: StageFolder, stage: Stage, recipe: Recipe, keys: Mapping[str, str]) -> Iterator[Change]:
    """Field by field, what differs from another result."""
    old, new = read_json(other.path / CONFIG) or {}, description_of(stage, recipe, keys)
    for field in ("use", "revision", "seed"):
        if old.get(field) != new[field]:
            yield Change(field=field, old=str(old.get(field)), new=str(new[field]))
    for table in ("values", "components", "data", "inputs"):
        before, after = old.get(table) or {}, new[table]
        for field in [*after, *(name for name in before if name not in after)]:
            said_by_use = table == "components" and f"{field}.use" in {**old.get("values", {}), **new["values"]}
            if said_by_use and _use(before.get(field)) != _use(after.get(field)):
                continue
            if before.get(field) != after.get(field):
                yield _change(table, field, before, after, stage)


def _change(table: str, field: str, before: Mapping[str, Any], after: Mapping[str, Any], stage: Stage) -> Change:
    if table == "inputs":
        return Change(field=field, old="", new="", origin=_input_name(stage, field))
    if table == "data":
        return Change(field=field, old="", new="", origin="its data")
    if table == "components":
        return Change(field=field, old=_component(before.get(field)), new=_component(after.get(field)))
    leaf = stage.values.get(("stages", stage.name, *field.split(".")))
    # A value equal to its default is left out of an identity.
    default = f"the default {_text(leaf.value)}" if leaf is not None and leaf.default else "the default"
    return Change(
        field=field,
        old=_text(before[field]) if field in before else "the default",
        new=_text(after[field]) if field in after else default if leaf is not None else "nothing",
        origin=str(leaf.origin) if leaf is not None else "",
    )


def _input_name(stage: Stage, field: str) -> str:
    leaf = stage.values.get(("stages", stage.name, *field.split(".")))
    return str(leaf.value) if leaf is not None else ""


def _use(component: Any) -> str:
    return str(component[1]) if component else ""


def _component(found: Any) -> str:
    if found is None:
        return "nothing"
    _, use, revision, distribution = found
    return f"{use} (revision {revision} of {distribution})"


def _text(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else text[:37] + "…"
