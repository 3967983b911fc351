"""Filled drafts as the resolved recipe: every leaf with its value and origin, every stage with what its key needs.

In: drafts in which every cell has its value. Out: `nanochat.recipe.resolved` objects, and the fingerprints of what the
components stand for (E301 and its like are placed at the component's table).
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from nanochat.config import AUTO
from nanochat.errors import Location, NanochatError
from nanochat.hardware import Hardware
from nanochat.recipe.content import content_digest, paths_in
from nanochat.recipe.draft import Cell, Draft, Link, Part, RecipeDraft, StageDraft
from nanochat.recipe.graph import stage_inputs
from nanochat.recipe.header import Header
from nanochat.recipe.notation import key_text, plain
from nanochat.recipe.problems import Problems
from nanochat.recipe.resolved import KeyPath, Origin, Recipe, Stage, Value
from nanochat.recipe.strict import holds_path
from nanochat.recipe.tree import Leaf

Fingerprints = dict[KeyPath, Mapping[str, Any]]


def fingerprints(recipe: RecipeDraft, problems: Problems) -> dict[str, Fingerprints]:
    """What the data-bearing configs of each stage stand for; only configs that could be built are asked."""
    asked: list[tuple[Any, Mapping[str, Any]]] = []
    found: dict[str, Fingerprints] = {}
    for stage in recipe.stages.values():
        found[stage.name] = {}
        for draft in stage.config.drafts():
            fingerprint = _fingerprint(draft)
            if fingerprint is None:
                continue
            known = next((answer for config, answer in asked if config == draft.built), None)
            answer = known if known is not None else _ask(draft, fingerprint, problems)
            if answer is not None:
                asked.append((draft.built, answer))
                found[stage.name][draft.path] = answer
    return found


def _fingerprint(draft: Draft) -> Callable[[], Mapping[str, Any]] | None:
    """The config's own, else one over the paths that decide its result; None where it stands for no data."""
    if draft.failed or draft.state != "done":
        return None
    own = getattr(draft.built, "fingerprint", None)
    if callable(own):
        return own  # type: ignore[no-any-return]
    cells = [found for found in draft.fields.values() if isinstance(found, Cell) and not found.rules.execution]
    paths = {cell.path[-1]: list(paths_in(cell.value)) for cell in cells if holds_path(cell.kind)}
    if not any(paths.values()):
        return None
    return lambda: {name: [content_digest(path) for path in found] for name, found in paths.items() if found}


def _ask(draft: Draft, fingerprint: Callable[[], Mapping[str, Any]], problems: Problems) -> Mapping[str, Any] | None:
    where = key_text(draft.path)
    try:
        return dict(plain(fingerprint()))
    except NanochatError as fault:
        for found in fault.diagnostics:
            problems.add(
                found.code,
                f"{where}: {found.message}",
                at=found.location or _path_place(draft, found.message) or draft.location,
                subject=found.message,
                label=found.label,
                help=found.help,
            )
    except Exception as fault:  # a plugin's method
        message = f"{where}: its fingerprint failed: {type(fault).__name__}: {fault}"
        problems.add("E202", message, at=draft.location, subject="fingerprint")
    return None


def _path_place(draft: Draft, message: str) -> Location | None:
    """Where the path is written that a message names, whole or by its last part."""
    for cell in (found for found in draft.fields.values() if isinstance(found, Cell) and holds_path(found.kind)):
        paths = list(paths_in(cell.value))
        for named in (str, lambda path: path.name):
            for index, path in enumerate(paths):
                if cell.leaf is not None and named(path) and named(path) in message:
                    return cell.leaf.place_of((index,) if isinstance(cell.value, list | tuple) else ())
    return None


def facts_apart(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A fingerprint with its lists of files as one fact each, for saying what changed: `files a.txt` → size, digest."""
    found: dict[str, Any] = {}
    for name, value in facts.items():
        listed = (
            isinstance(value, list) and value and all(isinstance(v, list) and v and type(v[0]) is str for v in value)
        )
        found |= {f"{name} {item[0]}": item[1:] for item in value} if listed else {name: value}
    return found


def resolved_recipe(
    draft: RecipeDraft,
    header: Header,
    *,
    path: Path,
    files: Mapping[str, bytes],
    prints: Mapping[str, Fingerprints],
) -> Recipe:
    """The whole recipe, all of whose drafts were built."""
    stages = {name: _stage(stage, prints[name]) for name, stage in draft.stages.items()}
    values = _top_values(draft)
    for stage in stages.values():
        values |= stage.values
    return Recipe(
        name=header.name,
        path=path,
        seed=header.seed,
        stages=stages,
        values=values,
        plugins=_distributions(draft),
        files=files,
        block=header.plugins.block,
        trackers=header.trackers,
    )


def _stage(stage: StageDraft, prints: Fingerprints) -> Stage:
    hardware = stage.hardware.built
    assert isinstance(hardware, Hardware)
    base = ("stages", stage.name)
    values = {(*base, "use"): _use(stage.use, stage.use_leaf)} | dict(_values(stage.config))
    for path, found in _values(stage.hardware):
        # Only the dtype is identity, and only where the stage computes with it.
        numeric = found.identity and stage.numeric
        values[path] = attrs.evolve(found, identity=numeric)
    parts = list(stage.config.parts())
    return Stage(
        name=stage.name,
        use=stage.use,
        revision=stage.revision,
        distribution=stage.distribution,
        config=stage.config.built,
        produces=stage.produces,
        seeded=stage.seeded,
        hardware=hardware,
        inputs=stage_inputs(stage),
        values=values,
        components={part.path: (part.kind, part.use, part.revision, part.distribution) for part in parts},
        fingerprints=prints,
        groups=stage.groups,
        location=stage.location,
    )


def _top_values(recipe: RecipeDraft) -> dict[KeyPath, Value]:
    """Every leaf above the stages. Of these only the seed decides a result."""
    values = dict(_values(recipe.header)) | dict(_values(recipe.hardware))
    return {path: attrs.evolve(found, identity=path == ("seed",)) for path, found in values.items()}


def _distributions(recipe: RecipeDraft) -> list[str]:
    """Those whose components the recipe uses, sorted."""
    found = {part.distribution for part in recipe.header.parts()}
    for stage in recipe.stages.values():
        found |= {stage.distribution, stage.launcher}
        found.update(part.distribution for part in stage.config.parts())
    return sorted(found - {""})


def _values(draft: Draft) -> Iterator[tuple[KeyPath, Value]]:
    """The leaves below a draft: its own first, then those of its nested tables and components, table by table."""
    deeper: list[Draft | Part] = []
    for found in draft.fields.values():
        if isinstance(found, Cell):
            if found.value is not None:
                yield found.path, _value(found)
        elif isinstance(found, Link):
            if found.leaf is not None and found.reference is not None:
                origin = _origin(found.leaf)
                yield found.path, Value(value=found.reference, origin=origin, identity=True, reference=True)
        elif found is not None:
            deeper += found.values() if isinstance(found, dict) else [found]
    for inner in deeper:
        if isinstance(inner, Draft):
            yield from _values(inner)
            continue
        yield (*inner.path, "use"), _use(inner.use, inner.use_leaf)
        if inner.slot is not None:
            yield from _values(inner.slot)
        yield from _values(inner.config)


def _value(cell: Cell) -> Value:
    assert cell.origin is not None
    # What a path leads to is identity, by its fingerprint; where it lies is not.
    identity = not cell.rules.execution and not holds_path(cell.kind)
    default = type(cell.value) is type(cell.default) and bool(cell.value == cell.default)
    derived = bool(cell.rules.derive) and cell.default == AUTO
    usual = None if cell.default is attrs.NOTHING or derived else plain(cell.default)
    return Value(value=plain(cell.value), origin=cell.origin, identity=identity, default=default, usual=usual)


def _use(use: str, leaf: Leaf) -> Value:
    return Value(value=use, origin=_origin(leaf), identity=True)


def _origin(leaf: Leaf) -> Origin:
    return Origin(kind=leaf.written, location=leaf.location)
