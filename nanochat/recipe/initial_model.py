"""Whether a stage with a model of its own fits its tokenizer, and can start from the weights that its `init` names.

In: filled drafts. Out: problems E115, where the tokenizer has more ids than the model, or a checkpoint's parameters
differ or its tokenizer is another one, as far as it is known before the stages that make them have run; the worker
looks again. Only weights are taken over, so whatever else two models differ in (windows, the length of rows) may
differ. The state of optimizers, which finetuning can take over too, is to be in a checkpoint on disk.
"""

from collections.abc import Mapping

from nanochat.errors import InputError
from nanochat.recipe.artifacts import NotRecorded, recorded
from nanochat.recipe.check import Failed
from nanochat.recipe.derive import Resolver
from nanochat.recipe.draft import Cell, Field, Link, Part, RecipeDraft, StageDraft
from nanochat.recipe.notation import key_text
from nanochat.recipe.problems import Problems
from nanochat.registry import Registry
from nanochat.training.manifest import refuse_weights_alone

Layout = Mapping[str, tuple[int, ...]]


def check_initial_models(recipe: RecipeDraft, resolver: Resolver, registry: Registry, problems: Problems) -> None:
    """Look at every stage that has a model of its own."""
    for stage in recipe.stages.values():
        init, own = stage.config.fields.get("init"), stage.config.fields.get("model")
        if not isinstance(own, Part):
            continue
        _check_vocabulary(stage, own, resolver, problems)
        if not isinstance(init, Link) or init.leaf is None:
            continue
        try:
            _check_shapes(stage, init, resolver, problems)
        except Failed:
            continue
        _check_tokenizer(stage, init, resolver, registry, problems)


def check_optimizers_behind(recipe: RecipeDraft, problems: Problems) -> None:
    """Look at every stage that takes over what the optimizers of a checkpoint on disk remember."""
    for stage in recipe.stages.values():
        fields = stage.config.fields
        init = fields.get("init")
        asked = [name for name in ("inherit_lr", "warm_start") if _is_on(fields.get(name))]
        if not asked or not isinstance(init, Link) or init.leaf is None or init.folder is None:
            continue
        try:
            refuse_weights_alone(init.folder, str(init.reference), " and ".join(f"`{name}`" for name in asked))
        except InputError as fault:
            problems.add_all(fault, at=init.leaf.place)


def _is_on(found: Field) -> bool:
    return isinstance(found, Cell) and found.state == "done" and found.value is True


def different(there: Layout, here: Layout) -> str:
    """The first parameter that two models do not share, in words; empty where they share all."""
    for name in [*there, *here]:
        if name not in here or name not in there:
            return f"`{name}` is only {'there' if name in there else 'here'}"
        if tuple(there[name]) != tuple(here[name]):
            return f"`{name}` is {_shape(there[name])} there and {_shape(here[name])} here"
    return ""


def _shape(lengths: tuple[int, ...]) -> str:
    return " × ".join(map(str, lengths)) or "a number"


def _check_vocabulary(stage: StageDraft, own: Part, resolver: Resolver, problems: Problems) -> None:
    """An id beyond the embedding would be an index error in the middle of training."""
    tokenizer, cell = stage.config.fields.get("tokenizer"), own.config.fields.get("vocab_size")
    if not isinstance(tokenizer, Link) or not isinstance(cell, Cell) or cell.state != "done":
        return
    ids = resolver.vocab_size(tokenizer)
    if ids is not None and isinstance(cell.value, int) and ids > cell.value:
        has = "may have" if tokenizer.stage else "has"
        problems.add(
            "E115",
            f"{key_text(cell.path)} is {cell.value}, but its tokenizer, {tokenizer.reference}, {has} {ids} ids",
            at=cell.place,
            subject="vocab_size",
            help="leave `vocab_size` out: it is the tokenizer's then",
        )


def _check_shapes(stage: StageDraft, init: Link, resolver: Resolver, problems: Problems) -> None:
    there, here = resolver.carried_model(init), resolver.model(stage)
    if not (callable(getattr(there, "layout", None)) and callable(getattr(here, "layout", None))):
        return
    assert init.leaf is not None
    found = different(there.layout(), here.layout())
    if found:
        remedy = f'{{ from = "stages.{init.stage.name}.model" }}' if init.stage else "the options that it records"
        problems.add(
            "E115",
            f"stage `{stage.name}` cannot start from {init.reference}: {found}",
            at=init.leaf.place,
            subject="init",
            help=f"give the stage the checkpoint's model: {remedy}; or leave `init` out",
        )


def _check_tokenizer(stage: StageDraft, init: Link, resolver: Resolver, registry: Registry, problems: Problems) -> None:
    own, carried = stage.config.fields.get("tokenizer"), tokenizer_behind(init)
    if not isinstance(own, Link) or carried is None:
        return
    if not _known_to_differ(own, carried, registry) and not _known_to_be_too_small(own, carried, resolver):
        return
    assert init.leaf is not None
    problems.add(
        "E115",
        f"stage `{stage.name}` cannot start from {init.reference}, which has another tokenizer than {own.reference}",
        at=init.leaf.place,
        subject="init",
        help=f'take the tokenizer that it was trained with: tokenizer = "{carried.reference}"',
    )


def tokenizer_behind(init: Link) -> Link | None:
    """The tokenizer of the checkpoint: its stage's own, or that of the checkpoint which that one began with."""
    seen: set[str] = set()
    while init.stage is not None and init.stage.name not in seen:
        seen.add(init.stage.name)
        fields = init.stage.config.fields
        if isinstance(found := fields.get("tokenizer"), Link):
            return found
        if not isinstance(following := fields.get("init"), Link):
            return None
        init = following
    return init if init.folder is not None else None


def _known_to_differ(own: Link, carried: Link, registry: Registry) -> bool:
    if own.stage is not None and carried.stage is not None:
        return own.stage is not carried.stage
    if own.folder is None or carried.folder is None:
        return False
    try:
        mine, theirs = (recorded(link.folder, ["tokenizer"], registry) for link in (own, carried) if link.folder)
    except NotRecorded:
        return False
    return bool(mine != theirs)


def _known_to_be_too_small(own: Link, carried: Link, resolver: Resolver) -> bool:
    """Of a stage the size is what it may have at most: a small text gives fewer ids."""
    most, there = resolver.vocab_size(own), resolver.vocab_size(carried)
    return most is not None and there is not None and there > most
