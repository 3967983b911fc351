"""What a person may name where a recipe is wanted: a file, a run's folder, or a run by its name."""

from pathlib import Path

import attrs

from nanochat.errors import InputError
from nanochat.recipe.text import near_recipes
from nanochat.running.find import find_run
from nanochat.running.run_folder import LOCK, RunFolder


def recipe_file(argument: Path | str) -> Path:
    """The file to load, which for a run is its lock. InputError E405 where a name or a folder is no run."""
    run = named_run(argument)
    return run.path / LOCK if run is not None else Path(argument)


def named_run(argument: Path | str) -> RunFolder | None:
    """The run that an argument names; None where it names a file. A run's own lock names the run."""
    path = Path(argument)
    if path.is_file() and path.name == LOCK:
        return RunFolder(path.parent.absolute())
    if path.is_dir() or not (path.exists() or path.suffix == ".toml"):
        try:
            return find_run(str(argument))
        except InputError as fault:
            (missing,) = fault.diagnostics
            # What is no run may be a recipe's file without its ending, or misspelt.
            raise InputError(attrs.evolve(missing, label=near_recipes(path))) from None
    return None
