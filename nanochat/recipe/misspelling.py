"""Misspelt key paths: what was meant, and what is therefore not missing.

In: key paths and trees. Out: suggestions as whole paths, and the paths that a misspelt key would have filled, so that
one slip is one error: `[stages.base.modl]` is an unknown key, and no missing model beside it.
"""

from collections.abc import Collection, Iterable, Iterator

from nanochat.errors import close_names, suggestion_of
from nanochat.recipe.notation import key_text
from nanochat.recipe.resolved import KeyPath
from nanochat.recipe.tree import Node, Table

STAGES = "stages"


def every_path(path: KeyPath, node: Node) -> Iterator[KeyPath]:
    """A path and all below it that the node has."""
    yield path
    for name, item in node.items.items() if isinstance(node, Table) else ():
        yield from every_path((*path, name), item)


def within(path: KeyPath, paths: Collection[KeyPath]) -> bool:
    """Whether a path or one above it is among the paths."""
    return any(path[:length] in paths for length in range(1, len(path) + 1))


def near_path(target: KeyPath, paths: Iterable[KeyPath]) -> str:
    """«did you mean `stages.base.optim`?»: the path with its first unknown word mended; nothing where none is near."""
    known = {path[:length] for path in paths for length in range(len(path) + 1)}
    depth = next((depth for depth in range(len(target)) if target[: depth + 1] not in known), len(target))
    if depth == len(target):
        return ""
    if not depth and (STAGES, target[0]) in known:
        mended = [(STAGES, *target)]
    else:
        above, rest = target[:depth], target[depth + 1 :]
        words = dict.fromkeys(path[depth] for path in sorted(known) if len(path) == depth + 1 and path[:depth] == above)
        mended = [(*above, word, *rest) for word in close_names(target[depth], words)]
    found = [path if path in known else path[: depth + 1] for path in mended]
    return suggestion_of([key_text(path) for path in found])


def whole_stages(tree: Table) -> list[str]:
    """The names of the stages that say `use`: what others may be misspelt for."""
    stages = tree.items.get(STAGES)
    named = stages.items if isinstance(stages, Table) else {}
    return [name for name, node in named.items() if isinstance(node, Table) and "use" in node.items]


def stray_paths(tree: Table) -> Iterator[KeyPath]:
    """What tables under a misspelt `[stage.NAME]`, or of a misspelt stage without `use`, would have filled."""
    stages = tree.items.get(STAGES)
    named = stages.items if isinstance(stages, Table) else {}
    for name, node in tree.items.items():
        if name != STAGES and name in close_names(STAGES, [name]):
            yield from every_path((STAGES,), node)
    whole = whole_stages(tree)
    for name, node in named.items():
        if name not in whole and isinstance(node, Table):
            for meant in close_names(name, whole)[:1]:
                yield from (path for path in every_path((STAGES, meant), node) if path != (STAGES, meant))
