"""Optimizer groups against the model: every parameter in exactly one group, every group with a parameter.

In: filled drafts. Out: problems E114 that name the parameters, and E115 where an optimizer refuses those it would get;
in the drafts, who gets what.
The model's own `layout()` says what there is; for a stage that starts from a checkpoint, the layout of that
checkpoint's model.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nanochat.errors import Location
from nanochat.recipe.check import Failed
from nanochat.recipe.derive import Resolver
from nanochat.recipe.draft import Cell, Part, RecipeDraft, StageDraft
from nanochat.recipe.notation import key_text
from nanochat.recipe.problems import Problems
from nanochat.training.groups import assign

_SHOWN = 4


def check_groups(recipe: RecipeDraft, resolver: Resolver, problems: Problems) -> None:
    """Look at every stage that has groups."""
    for stage in recipe.stages.values():
        for name, field in stage.config.fields.items():
            # What a lost group would have matched is not known, so the others are not asked about it.
            if (
                isinstance(field, dict)
                and name not in stage.config.lost
                and any(_match(part) is not None for part in field.values())
            ):
                _check(stage, (*stage.config.path, name), field, resolver, problems)


def _check(
    stage: StageDraft, path: tuple[str, ...], groups: Mapping[str, Part], resolver: Resolver, problems: Problems
) -> None:
    layout = stage_layout(stage, resolver, problems)
    patterns: dict[str, str | Sequence[str]] = {}
    for name, part in groups.items():
        cell = _match(part)
        if cell is None or cell.state != "done":
            return
        patterns[name] = cell.value
    if not layout:
        return
    found = assign(layout, patterns)
    where = key_text(path)
    doubled = {owner for owners in found.doubled.values() for owner in owners}
    empty = [name for name in found.empty if name not in doubled]
    if found.unmatched and not empty:  # else a wrong `match` is why they are in no group
        message = f"no group of {where} matches {_list(found.unmatched)}"
        problems.add("E114", message, at=_header(groups), subject="unmatched", help="widen a `match`, or add a group")
    for owners in sorted({tuple(owners) for owners in found.doubled.values()}):
        names = [name for name, its in found.doubled.items() if tuple(its) == owners]
        message = (
            f"{_list(names)} {'is' if len(names) == 1 else 'are'} in several groups of {where}: {', '.join(owners)}"
        )
        problems.add("E114", message, at=_place(groups[owners[-1]]), subject="doubled", help="narrow one `match`")
    for name in empty:
        message = f"the group {where}.{name} matches no parameter"
        heads = ", ".join(sorted({_family(parameter) for parameter in layout}))
        loose = f"; in no group: {_list(found.unmatched)}" if found.unmatched else ""
        problems.add("E114", message, at=_place(groups[name]), subject="empty", help=f"the model has {heads}{loose}")
    for name, members in found.groups.items():
        shapes = stage.groups[groups[name].path] = {member: layout[member] for member in members}
        _ask_optimizer(groups[name], shapes, resolver, problems)


def _ask_optimizer(part: Part, shapes: Mapping[str, Any], resolver: Resolver, problems: Problems) -> None:
    """Whether the group's optimizer can update what it matches: what it would only say when the stage runs."""
    try:
        refuses = getattr(resolver.config(part.config), "refuses", None)
    except Failed:
        return
    if not callable(refuses) or not shapes:
        return
    try:
        reason = refuses(shapes)
    except Exception as fault:  # a plugin's method
        message = f"refuses() of the optimizer `{part.use}` failed: {type(fault).__name__}: {fault}"
        problems.add("E202", message, at=part.location, subject="refuses")
        return
    if reason:
        problems.add("E115", f"{key_text(part.path)}: {reason}", at=_place(part), subject="refuses")


def stage_layout(stage: StageDraft, resolver: Resolver, problems: Problems) -> Mapping[str, Any]:
    """The parameters of the stage's model by name; empty where they are not known here."""
    try:
        model = resolver.model(stage)
    except Failed:
        return {}
    layout = getattr(model, "layout", None)
    if not callable(layout):
        return {}
    try:
        return dict(layout())
    except Exception as fault:  # a plugin's method
        message = f"the layout of {type(model).__qualname__} failed: {type(fault).__name__}: {fault}"
        problems.add("E202", message, at=stage.location, subject="layout")
        return {}


def _match(part: Part) -> Cell | None:
    found = part.slot.fields.get("match") if part.slot is not None else None
    return found if isinstance(found, Cell) else None


def _place(part: Part) -> Location | None:
    cell = _match(part)
    assert cell is not None
    return cell.place


def _header(groups: Mapping[str, Part]) -> Location | None:
    places = [part.location for part in groups.values() if part.location is not None]
    return min(places, key=lambda place: (place.path, place.line), default=None)


def _family(parameter: str) -> str:
    """The first word of a name: blocks.* for all of the blocks."""
    first, dot, _ = parameter.partition(".")
    return f"{first}.*" if dot else first


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
