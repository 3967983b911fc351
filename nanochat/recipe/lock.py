"""The lock: a resolved recipe as a recipe file of its own, with nothing left to derive.

In: a Recipe. Out: TOML text in which every value is written; its [lock] table says which were derived and from what,
which plugins gave the components, in which revisions, what the data was, and what each optimizer group came to. Loading
it gives the same values and keys, and the same lock: the plugins must be there and the data unchanged. Read as the
record of a run, it says what the data was instead.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import tomli_w

from nanochat.errors import Diagnostic, Location
from nanochat.recipe.assemble import Fingerprints, facts_apart
from nanochat.recipe.draft import Part, RecipeDraft, StageDraft
from nanochat.recipe.notation import fact_text, key_text, plain
from nanochat.recipe.problems import Problems
from nanochat.recipe.requirements import installed
from nanochat.recipe.resolved import KeyPath, Recipe, Stage, Value
from nanochat.recipe.source import FORMAT
from nanochat.recipe.tree import Leaf, Table, as_plain, find
from nanochat.registry import Registry
from nanochat.training.group_table import group_row

_LEAVES = {"plugins": str, "revisions": int}


def nested(values: Mapping[KeyPath, Value]) -> dict[str, Any]:
    """Values by path as tables within tables."""
    tree: dict[str, Any] = {}
    for path, leaf in values.items():
        table = tree
        for name in path[:-1]:
            table = table.setdefault(name, {})
        table[path[-1]] = leaf.value
    return tree


def lock_text(recipe: Recipe) -> str:
    """The lock of a recipe."""
    derived = {path: leaf.origin for path, leaf in recipe.values.items() if leaf.origin.kind == "derived"}
    prints = {path: found for stage in recipe.stages.values() for path, found in stage.fingerprints.items()}
    revisions: dict[KeyPath, int] = {}
    for stage in recipe.stages.values():
        revisions["stages", stage.name] = stage.revision
        revisions |= {path: revision for path, (_, _, revision, _) in stage.components.items()}
    # What a run was is one trial: in which others the recipe would be run is not part of it.
    document = {"format": FORMAT, **nested({path: leaf for path, leaf in recipe.values.items() if path[0] != "sweep"})}
    document["lock"] = {
        "plugins": distribution_versions(recipe),
        "revisions": {key_text(path): revision for path, revision in revisions.items()},
        "derived": dict(recipe.derived)
        | {
            key_text(path): {"rule": origin.rule, "sentence": origin.sentence, "inputs": plain(origin.inputs)}
            for path, origin in derived.items()
        },
        "data": {key_text(path): plain(dict(found)) for path, found in prints.items()},
        "groups": {key_text(path): row for stage in recipe.stages.values() for path, row in _group_rows(stage)},
    }
    return tomli_w.dumps(document)


def _group_rows(stage: Stage) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """The optimizer groups of a stage with what they came to."""
    for path, shapes in stage.groups.items():
        group = getattr(stage.config, path[-2])[path[-1]]
        row = group_row(group, shapes, getattr(stage.config, "lr_factor", 1.0))
        if getattr(stage.config, "inherit_lr", False):  # known when the checkpoint is read
            row = attrs.evolve(row, peak_lr=None)
        yield path, row.facts()


def distribution_versions(recipe: Recipe) -> dict[str, str]:
    """The version of every distribution that a recipe uses; empty for a loose file, which has none."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in recipe.plugins:
        try:
            found[name] = version(name)
        except (PackageNotFoundError, ValueError):
            found[name] = ""
    return found


def check_plugins(lock: Table, registry: Registry, problems: Problems) -> list[Diagnostic]:
    """The plugins that a lock names must be there (E204); another version than the lock's is a warning."""
    warnings = []
    for name, leaf in _leaves(lock, "plugins"):
        plugin = installed(name, registry)
        if plugin is None or plugin.status != "ok":
            state = "not installed" if plugin is None else plugin.status
            problems.add(
                "E204", f"the lock was made with {name} {leaf.value}".rstrip() + f", which is {state}", at=leaf.key
            )
        elif leaf.value and plugin.version and plugin.version != leaf.value:
            found = f"{plugin.version} is installed"
            warnings.append(_warning(f"the lock was made with {name} {leaf.value}; {found}", leaf.key))
    return warnings


def check_revisions(lock: Table, draft: RecipeDraft) -> list[Diagnostic]:
    """A warning for every component whose revision is not the lock's: its results, and so its key, are others."""
    components = dict(_components(draft))
    return [
        _warning(f"the lock was made with revision {leaf.value} of {name}; it is now {found.revision}", leaf.key)
        for name, leaf in _leaves(lock, "revisions")
        if (found := components.get(name)) is not None and found.revision != leaf.value
    ]


def check_data(lock: Table, prints: Mapping[str, Fingerprints], problems: Problems) -> None:
    """E304 for every table whose data is not what the lock was made with."""
    for path, facts in (item for found in prints.values() for item in found.items()):
        node = find(lock, ("data", key_text(path)))
        written = as_plain(node) if isinstance(node, Table) else None
        if node is None or not isinstance(written, dict):
            continue
        before, after = facts_apart(written), facts_apart(plain(dict(facts)))
        if before != after:
            differing = [name for name in {**before, **after} if before.get(name) != after.get(name)]
            changes = "; ".join(
                f"{name} {fact_text(before.get(name))} → {fact_text(after.get(name))}" for name in differing
            )
            message = f"the data of {key_text(path)} is not what the lock was made with: {changes}"
            remedy = "to use the data as it is now, run the recipe itself, not its lock"
            problems.add("E304", message, at=node.location, subject=key_text(path), help=remedy)


def derived(lock: Table) -> dict[str, Any]:
    """What a lock says of the values that a rule gave, by key."""
    node = find(lock, ("derived",))
    found = as_plain(node) if isinstance(node, Table) else {}
    return found if isinstance(found, dict) else {}


def restore(lock: Table, draft: RecipeDraft) -> dict[str, Fingerprints]:
    """What a run was made with: its revisions, put into the draft, and by stage its data, both as its lock says."""
    revisions = dict(_leaves(lock, "revisions"))
    for name, component in _components(draft):
        if name in revisions:
            component.revision = revisions[name].value
    prints: dict[str, Fingerprints] = {stage: {} for stage in draft.stages}
    for stage in draft.stages.values():
        for found in stage.config.drafts():
            facts = find(lock, ("data", key_text(found.path)))
            written = as_plain(facts) if isinstance(facts, Table) else None
            if isinstance(written, dict):
                prints[stage.name][found.path] = written
    return prints


def _components(draft: RecipeDraft) -> Iterator[tuple[str, StageDraft | Part]]:
    """Every stage and component by the name of its table."""
    for stage in draft.stages.values():
        yield key_text(stage.config.path), stage
        for part in stage.config.parts():
            yield key_text(part.path), part


def _leaves(lock: Table, name: str) -> Iterator[tuple[str, Leaf]]:
    table = lock.items.get(name)
    kind = _LEAVES[name]
    for key, leaf in table.items.items() if isinstance(table, Table) else ():
        if isinstance(leaf, Leaf) and type(leaf.value) is kind:
            yield key, leaf


def _warning(message: str, at: Location) -> Diagnostic:
    return Diagnostic(code="E204", message=message, location=at, severity="warning")
