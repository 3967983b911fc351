"""[plugins]: distributions that must be there, each perhaps with a range of versions (PEP 508), and what is blocked.

In: the table's arrays and the registry. Out: E204 for what is required and not there; a warning for what is blocked and
not there, and for a folder of loose files that is not there.
"""

from collections.abc import Iterator, Sequence

from nanochat.errors import Location, did_you_mean
from nanochat.installed import LOOSE_FILES
from nanochat.recipe.notation import shown
from nanochat.recipe.problems import Problems
from nanochat.recipe.tree import Leaf, Node
from nanochat.registrar import PluginStatus
from nanochat.registry import Registry, normal_name


def check_requirements(required: Sequence[str], node: Node | None, registry: Registry, problems: Problems) -> None:
    """E204 for every distribution that is missing, broken, blocked or of the wrong version."""
    for index, requirement in enumerate(required):
        fault, remedy = _fault(requirement, registry)
        if fault:
            at = node.place_of((index,)) if isinstance(node, Leaf) else None
            problems.add("E204", fault, at=at, subject=requirement, help=remedy)


def blocked_names(node: Node | None) -> list[str]:
    """[plugins] block as written, needed before the schema can be read; its type is checked there."""
    return [name for name, _ in _names(node)]


def check_blocked(node: Node | None, registry: Registry, problems: Problems) -> None:
    """A warning for every blocked name that nothing installed has.

    No error: a recipe goes from machine to machine, and blocks on one what another does not even have.
    """
    for name, at in _names(node):
        if installed(name, registry) is None:
            known = dict.fromkeys(known for p in registry.plugins for known in (p.distribution, p.name))
            message = f"[plugins] blocks {shown(name)}, but no plugin or distribution of that name is installed"
            near = did_you_mean(name, known)
            problems.warn("E201", message, at=at, label=near, help="" if near else f"installed: {', '.join(known)}")


def check_loose_files(registry: Registry, problems: Problems) -> None:
    """A warning where NANOCHAT_PLUGINS_DIR names what cannot be listed: its plugins, observers too, are not there."""
    for plugin in registry.plugins:
        if plugin.name == LOOSE_FILES:
            remedy = f"name a folder that there is, or take {LOOSE_FILES} away"
            problems.warn(
                "E202", f"no loose plugin is loaded: {LOOSE_FILES} is broken: {plugin.reason}", at=None, help=remedy
            )


def _names(node: Node | None) -> Iterator[tuple[str, Location]]:
    """The strings of an array, each with its place."""
    if isinstance(node, Leaf) and isinstance(node.value, list):
        yield from ((name, node.place_of((i,))) for i, name in enumerate(node.value) if isinstance(name, str))


def _fault(text: str, registry: Registry) -> tuple[str, str]:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import InvalidVersion

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return f"{shown(text)} is no requirement", 'written like "nanochat-plugins>=0.1"'
    plugin = installed(requirement.name, registry)
    install = f"install it: pip install '{text}'"
    if plugin is None:
        return f"the recipe requires the plugin distribution {text}, which is not installed", install
    if plugin.status != "ok":
        return f"the recipe requires {text}, but its plugin `{plugin.name}` is {plugin.status}: {plugin.reason}", ""
    try:
        fits = requirement.specifier.contains(plugin.version, prereleases=True)
    except InvalidVersion:
        fits = not requirement.specifier
    if not fits:
        return f"the recipe requires {text}; {plugin.version or 'a version without number'} is installed", install
    return "", ""


def installed(name: str, registry: Registry) -> PluginStatus | None:
    """The plugin of that distribution (or of that name); a working one before a broken one."""
    wanted = normal_name(name)
    found = [p for p in registry.plugins if wanted in (normal_name(p.distribution), normal_name(p.name))]
    return next((p for p in found if p.status == "ok"), found[0] if found else None)
