"""`nanochat new PATH --from RUN`: a recipe that says all that a run was, with what is to be tried changed in it.

In: a run, changes as `--set` takes them. Out: a file with every value written down, but for those that a rule derived,
which follow from the others again; its `parent` names the run, for `diff` and reports. Stages that come out with the
keys that they had are there already, and are not run again.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path

import click

from nanochat.errors import InputError
from nanochat.hardware import probe_machine
from nanochat.recipe.load import load_recipe
from nanochat.recipe.lock import nested
from nanochat.recipe.notation import is_name, key_text
from nanochat.recipe.resolved import Recipe
from nanochat.recipe.source import FORMAT
from nanochat.registry import load_registry
from nanochat.running.find import find_run
from nanochat.running.plan import make_plan
from nanochat.running.run_folder import LOCK
from nanochat.running.store import Store


def write_branch(path: Path, run_name: str, changes: Sequence[str]) -> None:
    """Write the recipe and say what is left to do. InputError where there is no such run, or a change is wrong."""
    run = find_run(run_name)
    lock = run.path / LOCK
    registry, machine = load_registry(), probe_machine()
    recipe = load_recipe(lock, overrides=changes, registry=registry, machine=machine, record=True)
    derived = tomllib.loads(lock.read_text(encoding="utf-8")).get("lock", {}).get("derived", {})
    with path.open("x", encoding="utf-8") as file:
        file.write(_text(recipe, derived, name=path.stem, parent=run.path.name, changes=changes))
    try:
        branched = load_recipe(path, registry=registry, machine=machine)
        stages = make_plan(branched, machine, Store(), registry).stages
    except InputError:
        path.unlink()
        raise
    to_do = [stage.name for stage in stages if stage.action != "reuse"]
    click.echo(f"wrote {path}: {run.path.name} with {len(changes)} change{'' if len(changes) == 1 else 's'}")
    said = ", ".join(to_do) or "nothing, every stage is there"
    click.echo(f"left to do: {said} (of {len(stages)} stages)")
    click.echo(f"what it changes: nanochat diff {path}; then: nanochat-run {path}")


def _text(recipe: Recipe, derived: Sequence[str], *, name: str, parent: str, changes: Sequence[str]) -> str:
    import tomli_w

    kept = {
        path: leaf
        for path, leaf in recipe.values.items()
        if path[0] not in ("name", "parent") and (leaf.origin.kind == "set" or key_text(path) not in derived)
    }
    tried = "".join(f"# {change}\n" for change in changes)
    said = f"# Every value of the run {parent}; what is not here follows from what is.{' Tried:' if tried else ''}\n"
    own = {"name": name} if is_name(name) else {}
    return said + tried + tomli_w.dumps({"format": FORMAT, **own, "parent": parent, **nested(kept)})
