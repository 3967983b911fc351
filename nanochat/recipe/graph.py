"""The graph of stages: which artifact each reference means, and an order in which every stage follows its inputs.

In: a recipe's draft. Out: links that know their stage or folder, stages reordered; problems E110 (leads nowhere), E111
(the wrong kind), E112 (a circle).
"""

import re
from pathlib import Path

from nanochat.recipe.artifacts import KEY_CHARACTERS, artifact_in, kinds_at, stored
from nanochat.recipe.draft import Link, RecipeDraft, StageDraft
from nanochat.recipe.notation import key_text, shown
from nanochat.recipe.problems import Problems
from nanochat.recipe.tree import Leaf

_KEY = re.compile(rf"[0-9a-f]{{{KEY_CHARACTERS},64}}\Z")


def connect(recipe: RecipeDraft, problems: Problems, *, record: bool = False) -> None:
    """Resolve every artifact reference, then order the stages: inputs first, otherwise as in the file.

    record: what lies outside the recipe may be gone, and is not looked for.
    """
    for stage in recipe.stages.values():
        for draft in stage.config.drafts():
            for link in draft.fields.values():
                if isinstance(link, Link) and link.leaf is not None:
                    draft.failed |= not _resolve(link, link.leaf, recipe, problems, record=record)
    _order(recipe, problems)


def _resolve(link: Link, leaf: Leaf, recipe: RecipeDraft, problems: Problems, *, record: bool) -> bool:
    """Find what a reference means; False where it was reported."""
    before = len(problems)
    prefix, colon, rest = str(link.reference).partition(":")
    if not colon or prefix not in ("stage", "path", "store") or not rest or "\0" in rest:
        label = problems.suggestion(str(link.reference), recipe.stages)
        stage = next((name for name in recipe.stages if f"`{name}`" in label), None)
        problems.add(
            "E110",
            f"{key_text(link.path)} is {shown(link.reference)}, not a reference",
            at=leaf.place,
            label=f'did you mean "stage:{stage}"?'
            if stage
            else f'a {link.kind}: "stage:NAME", "path:…" or "store:KEY"',
        )
    elif prefix == "stage" and rest in recipe.lost:
        return False
    elif prefix == "stage":
        _to_stage(link, leaf, rest, recipe, problems)
    elif record:
        link.folder = Path(rest)
    elif prefix == "path":
        _to_path(link, leaf, rest, problems)
    else:
        _to_stored(link, leaf, rest, problems)
    return len(problems) == before


def _to_stage(link: Link, leaf: Leaf, name: str, recipe: RecipeDraft, problems: Problems) -> None:
    stage = recipe.stages.get(name)
    if stage is None:
        names = [*recipe.stages, *recipe.lost]
        label = problems.suggestion(name, names)
        known = ", ".join(names)
        problems.add("E110", f"there is no stage {shown(name)}", at=leaf.place, label=label, help=f"stages: {known}")
    elif stage.produces != link.kind:
        fitting = [s.name for s in recipe.stages.values() if s.produces == link.kind]
        made = f"makes a {stage.produces}" if stage.produces else "makes nothing that another stage can use"
        problems.add(
            "E111",
            f"{key_text(link.path)} takes a {link.kind}, but stage `{name}` {made}",
            at=leaf.place,
            help=f"stages that make a {link.kind}: {', '.join(fitting) or 'none'}",
        )
    else:
        link.stage = stage


def _to_path(link: Link, leaf: Leaf, text: str, problems: Problems) -> None:
    try:
        place = Path(text).expanduser() if text.startswith("~/") else leaf.base / text
        folder = artifact_in(place.absolute())
        exists, kinds = place.exists(), kinds_at(place.absolute())
    except (OSError, RuntimeError) as fault:
        problems.add("E110", f"{shown(text)} cannot be read: {fault}", at=leaf.place)
        return
    if not exists:
        problems.add("E110", f"there is nothing at {place}", at=leaf.place, subject=text)
    elif link.kind in ("checkpoint", "tokenizer") and link.kind not in kinds:
        found = f"it holds a {' and a '.join(kinds)}" if kinds else "it holds no artifact"
        problems.add("E111", f"there is no {link.kind} at {place}: {found}", at=leaf.place, subject=text)
    else:
        link.reference, link.folder = f"path:{place.absolute()}", folder


def _to_stored(link: Link, leaf: Leaf, key: str, problems: Problems) -> None:
    if not _KEY.match(key):
        problems.add("E110", f"{shown(key)} is no key of the store", at=leaf.place, label="at least 8 hex digits")
        return
    try:
        found = stored(key)
    except (OSError, RuntimeError) as fault:
        problems.add("E110", f"the store cannot be read: {fault}", at=leaf.place)
        return
    if len(found) != 1:
        keys = ", ".join(result.key for result in found)
        message = f"the store has {'more than one' if found else 'no'} finished result with the key {shown(key)}"
        remedy = f"give more of the key: {keys}" if found else "`nanochat runs` lists what there is"
        problems.add("E110", message, at=leaf.place, subject=key, help=remedy)
        return
    (result,) = found
    if link.kind != result.produces:
        message = f"{key_text(link.path)} takes a {link.kind}, but {shown(key)} is a {result.produces}"
        problems.add("E111", message, at=leaf.place, subject=key)
    else:
        link.reference, link.folder = f"store:{result.key}", result.folder


def _order(recipe: RecipeDraft, problems: Problems) -> None:
    """Reorder the stages. The first circle found is reported, its stages keep their places."""
    done: dict[str, StageDraft] = {}
    reported: set[str] = set()

    def visit(stage: StageDraft, chain: list[str]) -> None:
        if stage.name in done:
            return
        if stage.name in chain:
            circle = chain[chain.index(stage.name) :]
            if not reported & set(circle):
                _report_circle(recipe, circle, problems)
            reported.update(circle)
            return
        for source in stage.sources():
            visit(source, [*chain, stage.name])
        done.setdefault(stage.name, stage)

    for stage in recipe.stages.values():
        visit(stage, [])
    recipe.stages = done


def _report_circle(recipe: RecipeDraft, circle: list[str], problems: Problems) -> None:
    first = recipe.stages[circle[0]]
    following = circle[1] if len(circle) > 1 else circle[0]
    link = next(link for link in first.config.links() if link.stage is not None and link.stage.name == following)
    assert link.leaf is not None
    message = f"stages need each other in a circle: {' → '.join([*circle, circle[0]])}"
    problems.add("E112", message, at=link.leaf.place)
    for name in circle:
        recipe.stages[name].in_circle = True


def stage_inputs(stage: StageDraft) -> dict[str, str]:
    """Artifact references that name a stage of the recipe → that stage's name."""
    links = [link for link in stage.config.links() if link.stage is not None]
    return {str(link.reference): link.stage.name for link in links if link.stage is not None}
