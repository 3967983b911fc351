"""[plugins] require: distributions that must be installed, each perhaps with a range of versions (PEP 508)."""

from collections.abc import Sequence

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
