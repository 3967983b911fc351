"""The lock: a resolved recipe as a recipe file of its own, with nothing left to derive.

In: a Recipe. Out: TOML text in which every value is written; its [lock] table says which were derived and from what,
which plugins gave the components, and what the data was. Loading it gives the same values and keys: [lock] is not
read but for the plugins, which must be there.
"""

from collections.abc import Mapping
from typing import Any

import tomli_w

from nanochat.errors import Diagnostic, Location
from nanochat.recipe.notation import key_text, plain
from nanochat.recipe.problems import Problems
from nanochat.recipe.requirements import installed
from nanochat.recipe.resolved import KeyPath, Recipe, Value
from nanochat.recipe.source import FORMAT
from nanochat.recipe.tree import Leaf, Node, Table, find
from nanochat.registry import Registry


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
    document = {"format": FORMAT, **nested(recipe.values)}
    document["lock"] = {
        "plugins": distribution_versions(recipe),
        "derived": {
            key_text(path): {"rule": origin.rule, "sentence": origin.sentence, "inputs": plain(origin.inputs)}
            for path, origin in derived.items()
        },
        "data": {key_text(path): plain(dict(found)) for path, found in prints.items()},
    }
    return tomli_w.dumps(document)


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


def check_lock(node: Node | None, registry: Registry, problems: Problems, warnings: list[Diagnostic]) -> None:
    """The plugins that a lock names must be there (E204); another version than the lock's is a warning."""
    plugins = find(node, ("plugins",)) if isinstance(node, Table) else None
    for name, leaf in plugins.items.items() if isinstance(plugins, Table) else ():
        if not isinstance(leaf, Leaf) or not isinstance(leaf.value, str):
            continue
        plugin = installed(name, registry)
        if plugin is None or plugin.status != "ok":
            state = "not installed" if plugin is None else plugin.status
            problems.add("E204", f"the lock was made with {name} {leaf.value}, which is {state}", at=leaf.key)
        elif leaf.value and plugin.version and plugin.version != leaf.value:
            warnings.append(_other_version(name, leaf.value, plugin.version, leaf.location))


def _other_version(name: str, locked: str, found: str, at: Location) -> Diagnostic:
    message = f"the lock was made with {name} {locked}; {found} is installed"
    return Diagnostic(code="E204", message=message, location=at, severity="warning")
