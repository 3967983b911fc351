"""What is wrong with a recipe whatever the file says that could not be read.

In: the part of the tree that no missing or broken file is merged over. Out: problems of its keys and values: unknown
keys, wrong types, values out of range, unknown plugin names. What is only missing is not told, nor what leads nowhere:
the broken file may hold it; a table without `use` may be of any kind.
"""

from nanochat.errors import InputError
from nanochat.recipe.check import Failed, checked
from nanochat.recipe.problems import Problems
from nanochat.recipe.reference import follow_references
from nanochat.recipe.schema import Schema
from nanochat.recipe.tree import Later, Table
from nanochat.registry import Registry

CERTAIN = ("E102", "E103", "E104", "E201")


def check_certain(tree: Table, registry: Registry, problems: Problems) -> None:
    """Note what is certainly wrong."""
    found = Problems()
    try:
        draft = Schema(registry, found).recipe(follow_references(tree, found), name="recipe")
        for table in draft.drafts():
            for cell in table.cells():
                leaf = cell.leaf
                if leaf is None or isinstance(leaf.value, Later) or (cell.rules.derive and leaf.value == "auto"):
                    continue
                try:
                    checked(cell, leaf.value, leaf, found)
                except Failed:
                    continue
        found.raise_any()
    except InputError as fault:
        problems.add_all(InputError([one for one in fault.diagnostics if one.code in CERTAIN]), at=None)
