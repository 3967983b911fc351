"""A run as one side of a comparison: its recipe as locked, and what its finished stages measured.

In: a run folder. Out: what `nanochat.recipe.diff` compares. Its recipe must still load: the plugins it needs are there.
"""

import tomllib
from pathlib import Path
from typing import Any

from nanochat.recipe.diff import Side
from nanochat.recipe.load import load_recipe
from nanochat.running.figures import finished_stages
from nanochat.running.run_folder import LOCK, RunFolder


def run_side(run: RunFolder) -> Side:
    """InputError where the lock cannot be read."""
    recipe = load_recipe(run.path / LOCK, record=True)
    lock = lock_table(run.path / LOCK)
    figures = {f"{stage.name}.{name}": found for stage in finished_stages(run) for name, found in stage.figures.items()}
    errors = {name: figure["standard_error"] for name, figure in figures.items() if figure.get("standard_error")}
    return Side(
        label=run.path.name,
        recipe=recipe,
        derived=frozenset(lock.get("derived", {})),
        versions=lock.get("plugins", {}),
        figures={name: figure["value"] for name, figure in figures.items()},
        errors=errors,
    )


def lock_table(recipe: Path) -> dict[str, Any]:
    """The [lock] table of a file that loads; empty where it has none."""
    found: dict[str, Any] = tomllib.loads(recipe.read_text(encoding="utf-8-sig")).get("lock", {})
    return found
