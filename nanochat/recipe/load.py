"""A recipe file to a resolved recipe: every pass in its order, every problem in one error.

    files read and merged (source) → --set (override) → from (reference) → tables against config classes (schema)
    → stages connected (graph) → values filled (derive) → groups, batches, evaluations, fingerprints → Recipe (assemble)

In: a path and overrides. Out: a Recipe, or an InputError with all that is wrong. No torch, no network.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from nanochat.config import Artifact
from nanochat.errors import Diagnostic, InputError, Location, wrong_input
from nanochat.hardware import Machine, probe_machine
from nanochat.recipe.assemble import fingerprints, resolved_recipe
from nanochat.recipe.axis import Change, changed
from nanochat.recipe.batches import check_batches
from nanochat.recipe.certain import check_certain
from nanochat.recipe.derive import Resolver
from nanochat.recipe.evaluations import check_evaluations, check_splits
from nanochat.recipe.graph import connect
from nanochat.recipe.groups import check_groups
from nanochat.recipe.header import Header
from nanochat.recipe.initial_model import check_initial_models, check_optimizers_behind
from nanochat.recipe.lanes import check_lanes
from nanochat.recipe.lock import check_data, check_plugins, check_revisions, derived, restore
from nanochat.recipe.notation import LONGEST_NAME, described, is_bare
from nanochat.recipe.override import parse_overrides
from nanochat.recipe.problems import Problems
from nanochat.recipe.reference import follow_references
from nanochat.recipe.requirements import blocked_names, check_blocked, check_loose_files, check_requirements
from nanochat.recipe.resolved import Recipe, Stage
from nanochat.recipe.schema import Schema
from nanochat.recipe.source import FORMAT, Source, read_source
from nanochat.recipe.sweep_table import SweepTable, sweep_table
from nanochat.recipe.text import check_readable
from nanochat.recipe.tool_tokens import check_tool_tokens
from nanochat.recipe.transforms import check_transforms
from nanochat.recipe.tree import Table, find
from nanochat.registry import Registry, load_registry, quiet


def load_recipe(
    path: Path | str,
    *,
    overrides: Sequence[str] = (),
    changes: Sequence[Change] = (),
    registry: Registry | None = None,
    machine: Machine | None = None,
    record: bool = False,
) -> Recipe:
    """Read, check and fill in a recipe. InputError with every diagnostic, in file order.

    changes: what a trial of a sweep changes; it comes over the overrides.
    registry: what `use` names are looked up in (what the recipe blocks is blocked in it); without it, all that is
    installed.
    machine: what "auto" hardware is derived from; without it, this machine.
    record: the file is a run's lock, wanted for what the run was: its data and revisions are those that the lock says,
    and what has become of files and store since is not looked at.
    """
    try:
        with quiet():
            asked = Asked(path=Path(path), overrides=overrides, changes=changes)
            return _load(asked, registry, machine or probe_machine(), record=record)
    except RecursionError:
        raise wrong_input("E106", f"{path} is nested too deep") from None


def read_sweep(path: Path | str, *, overrides: Sequence[str] = ()) -> SweepTable:
    """What a recipe's [sweep] says; empty where it has none. InputError where it cannot be read."""
    problems = Problems()
    tree, _ = _tree(Asked(path=Path(path), overrides=overrides), problems)
    found = sweep_table(tree, problems)
    problems.raise_any()
    return found


@attrs.frozen(kw_only=True)
class Asked:
    """A recipe's file and what comes over it."""

    path: Path
    overrides: Sequence[str] = ()
    changes: Sequence[Change] = ()


def _tree(asked: Asked, problems: Problems) -> tuple[Table, Source]:
    """The recipe as written, with what comes over it; and the files."""
    typed = [*asked.overrides, *(change.text for change in asked.changes if change.values is None)]
    base = _current_folder() if typed or not asked.path.is_absolute() else asked.path.parent
    source = read_source(asked.path, problems)
    return changed(source.tree, asked.changes, parse_overrides(typed, problems, base=base), problems), source


def _load(asked: Asked, registry: Registry | None, machine: Machine, *, record: bool) -> Recipe:
    path, problems = asked.path, Problems()
    tree, source = _tree(asked, problems)
    block = find(tree, ("plugins", "block"))
    if registry is None:
        registry = load_registry(block=blocked_names(block))
    else:
        registry.block(blocked_names(block))
    check_blocked(block, registry, problems)
    check_loose_files(registry, problems)
    if not source.whole:
        check_certain(tree, registry, problems)
        problems.raise_any()
    _check_format(tree, source, problems)
    sweep_table(tree, problems)
    tree = follow_references(tree, problems)
    draft = Schema(registry, problems).recipe(tree, name=_file_name(path), start=_start(source))
    lock = tree.items.get("lock")
    if not isinstance(lock, Table):
        lock = Table(items={}, location=None, base=path.parent)
    connect(draft, problems, record=record)
    locked_prints = restore(lock, draft) if record else None
    resolver = Resolver(draft, registry, machine, problems)
    resolver.fill()
    check_groups(draft, resolver, problems)
    check_transforms(draft, resolver, problems)
    check_batches(draft, resolver, problems)
    check_initial_models(draft, resolver, registry, problems)
    if not record:  # what lay there may be another by now
        check_optimizers_behind(draft, problems)
    check_lanes(draft, resolver, problems)
    check_evaluations(draft, problems)
    check_splits(draft, problems)
    check_tool_tokens(draft, registry, problems)
    prints = fingerprints(draft, problems) if locked_prints is None else locked_prints
    header = draft.header.built
    if isinstance(header, Header):
        check_requirements(header.plugins.require, find(tree, ("plugins", "require")), registry, problems)
    warnings = [*problems.warnings, *check_plugins(lock, registry, problems), *check_revisions(lock, draft)]
    check_data(lock, prints, problems)
    problems.raise_any()
    assert isinstance(header, Header)
    files = {str(file): text.content for file, text in source.files.items()}
    recipe = resolved_recipe(draft, header, path=path.absolute(), files=files, prints=prints)
    warnings += _ask_observers(recipe, registry)
    return attrs.evolve(recipe, derived=_derived(lock, asked, source), warnings=warnings)


def _derived(lock: Table, asked: Asked, source: Source) -> Mapping[str, Any]:
    """What the recipe's own lock says was derived; nothing where something came over it: rules may then give others."""
    untouched = len(source.files) == 1 and not (asked.overrides or asked.changes)
    return derived(lock) if untouched else {}


def _current_folder() -> Path:
    """Where relative paths of the command line start."""
    try:
        folder = Path.cwd()
    except OSError:
        raise wrong_input("E101", "the current folder is gone", help="change to a folder that exists") from None
    check_readable(folder)
    return folder


def _check_format(tree: Table, source: Source, problems: Problems) -> None:
    found = tree.items.get("format")
    if isinstance(found, Table):
        problems.add("E103", f"format is a table, not the integer {FORMAT}", at=found.location, subject="format")
    if found is None:
        message = f"the recipe does not say `format = {FORMAT}`, the version of its language"
        problems.add("E105", message, at=_start(source), subject="format", help=f"begin it with: format = {FORMAT}")


def _start(source: Source) -> Location:
    """The first line of the recipe's own file."""
    first = next(iter(source.files.values()))
    return Location(path=first.name, line=1, column=1, text=first.text.split("\n", 1)[0].removesuffix("\r"))


def _file_name(path: Path) -> str:
    """What a recipe is called that has no name: its file's, with what a folder's name cannot hold replaced."""
    name = "".join(c if is_bare(c) else "-" for c in path.stem).strip("-")[:LONGEST_NAME]
    return name or "recipe"


def _ask_observers(recipe: Recipe, registry: Registry) -> list[Diagnostic]:
    """Every plugin's `validate_recipe`. What one finds stops the run; its own fault is a warning."""
    found: list[Diagnostic] = []
    faults: list[Diagnostic] = []
    for plugin, answer in registry.observe("validate_recipe", recipe=recipe):
        fault = ""
        if isinstance(answer, str):  # one message, or none
            answer = [answer] if answer else None
        if isinstance(answer, BaseException):
            fault = f"failed in validate_recipe: {type(answer).__name__}: {answer}"
        elif isinstance(answer, list | tuple) and all(isinstance(message, str) for message in answer):
            found += [Diagnostic(code="E115", message=f"plugin `{plugin}`: {message}") for message in answer]
        elif answer is not None:
            fault = f"gave {described(answer)} in validate_recipe, not a list of messages"
        if fault:
            faults.append(Diagnostic(code="E202", message=f"plugin `{plugin}` {fault}", severity="warning"))
    if found:
        raise InputError(found)
    return faults


def locate(stage: Stage, folders: Mapping[str, Path]) -> Any:
    """The stage's config with every artifact's folder known. `folders`: reference ("stage:tok") → folder."""
    return _located(stage.config, folders)


def _located(value: Any, folders: Mapping[str, Path]) -> Any:
    if isinstance(value, Artifact):
        return attrs.evolve(value, path=folders.get(value.reference, value.path))
    if isinstance(value, dict):
        return {name: _located(item, folders) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_located(item, folders) for item in value)
    if attrs.has(type(value)):
        changed = {}
        for field in attrs.fields(type(value)):
            if not field.init:
                continue
            before = getattr(value, field.name)
            after = _located(before, folders)
            if after is not before and after != before:
                changed[field.alias or field.name] = after
        return attrs.evolve(value, **changed) if changed else value
    return value
