"""One conversation of a stage as training sees it: its ids, which of them are learnt, and what a row has room for.

In: a resolved recipe whose tokenizer is trained, a stage or one of its tasks, a number. Out: the conversation. Nothing
is trained; tasks are built, so that those on a hub fetch their files. Not here: how it is printed.
"""

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from nanochat.config import Artifact, Component
from nanochat.data.packing import cut_length
from nanochat.data.task_mixture import TaskMixture, TaskShare
from nanochat.errors import did_you_mean, wrong_input
from nanochat.hardware import Machine
from nanochat.recipe.load import locate
from nanochat.recipe.model_of import model_of
from nanochat.recipe.resolved import Recipe, Stage
from nanochat.registry import Registry
from nanochat.running.plan import Plan, make_plan
from nanochat.running.store import Store
from nanochat.text.conversation import render_conversation
from nanochat.text.special import ASSISTANT_END, USER_END
from nanochat.text.tokenizer import Tokenizer


@attrs.frozen(kw_only=True, eq=False)
class ShownConversation:
    """A conversation, rendered."""

    task: str
    """Its name in the recipe."""
    index: int
    """In the task."""
    tokenizer: Tokenizer
    ids: list[int]
    learnt: list[bool]
    """Which ids are learnt as targets."""
    kept: int
    """Ids that a row takes."""
    row: int | None
    """Ids that a row holds; None where the model does not say."""
    counts: Mapping[str, int]
    """Conversations of each task in one pass, or those of the one task."""


def conversation_of(recipe: Recipe, machine: Machine, registry: Registry, where: str, index: int) -> ShownConversation:
    """Conversation `index` of the first pass of `where`: stages.sft, or of one of its tasks, stages.sft.data.mine.

    InputError E405 where there is no such stage, task or conversation, or the tokenizer is not trained yet; E306 where
    the conversation is a bad one.
    """
    stage, only = _chosen(recipe, where)
    store = Store()
    plan = make_plan(recipe, machine, store, registry)
    row = _row(stage, recipe, registry)
    tokenizer = _tokenizer(stage, plan, store)
    config = locate(stage, plan.inputs(stage, store, only=_needed(stage, plan)))
    tasks = {name: _share(part, registry) for name, part in config.data.items() if only in (None, name)}
    mixture = TaskMixture(tasks, recipe.seed)
    total = len(mixture) if only is None else len(tasks[only].task)
    if not 0 <= index < total:
        raise wrong_input("E405", f"{where} has no conversation {index}", help=f"there are {total:,}, from 0 on")
    name, number = mixture.place(index) if only is None else (only, index)
    rendered = render_conversation(tasks[name].task[number], tokenizer)
    mask = np.array(rendered.mask, np.bool_)
    if getattr(config, "loss_on", "assistant") == "all":
        mask[:] = True
    ends = [tokenizer.special_id(token) for token in (USER_END, ASSISTANT_END)]
    kept = len(mask) if row is None else cut_length(np.array(rendered.ids, np.uint32), mask, row, ends)
    learnt = [bool(written) and 0 < place < kept for place, written in enumerate(mask)]
    counts = mixture.counts if only is None else {only: total}
    return ShownConversation(
        task=name, index=number, tokenizer=tokenizer, ids=rendered.ids, learnt=learnt, kept=kept, row=row, counts=counts
    )


def _chosen(recipe: Recipe, where: str) -> tuple[Stage, str | None]:
    """The stage, and the name of the task where one is meant."""
    reading = {name: stage for name, stage in recipe.stages.items() if _tasks(stage)}
    known = {f"stages.{name}": (stage, None) for name, stage in reading.items()} | {
        f"stages.{name}.data.{task}": (stage, task) for name, stage in reading.items() for task in _tasks(stage)
    }
    found = known.get(where if where.startswith("stages.") else f"stages.{where}")
    if found is None:
        near = did_you_mean(where, known)
        raise wrong_input(
            "E405",
            f"{recipe.name} has no conversations at `{where}`",
            help=near or f"it has them at: {', '.join(f'stages.{name}' for name in reading) or 'no stage'}",
        )
    return found


def _tasks(stage: Stage) -> dict[str, Component]:
    data = getattr(stage.config, "data", None)
    return {name: part for name, part in data.items() if part.kind == "task"} if isinstance(data, dict) else {}


def _share(part: Component, registry: Registry) -> TaskShare:
    slot: Any = part.slot
    return TaskShare(task=registry.builder("task", part.use)(part.config), **(attrs.asdict(slot) if slot else {}))


def _behind(stage: Stage, recipe: Recipe) -> Stage | None:
    """The stage whose checkpoint a stage starts from, where it is of the recipe."""
    init = getattr(stage.config, "init", None)
    name = stage.inputs.get(init.reference) if init is not None else None
    return recipe.stages[name] if name is not None else None


def _row(stage: Stage, recipe: Recipe, registry: Registry) -> int | None:
    """Ids of a row: one more than the model's inputs, so that each has its target."""
    model = model_of(stage, recipe, registry)
    length = getattr(model.config, "sequence_len", None) if model is not None else None
    return length + 1 if isinstance(length, int) else None


def _tokenizer(stage: Stage, plan: Plan, store: Store) -> Tokenizer:
    """Of the nearest stage behind that names its tokenizer; else that of the checkpoint it all begins with."""
    while True:
        own = getattr(stage.config, "tokenizer", None)
        artifact = own if own is not None else stage.config.init
        behind = _behind(stage, plan.recipe) if own is None else None
        if behind is None:
            _require(stage, artifact.reference, plan)
            return Tokenizer.load(plan.inputs(stage, store, only=[artifact.reference])[artifact.reference])
        stage = behind


def _needed(stage: Stage, plan: Plan) -> list[str]:
    """What its tasks read of other stages, a list of words for one. It must be there."""
    configs = [part.config for part in _tasks(stage).values()]
    values = [getattr(config, field.name) for config in configs for field in attrs.fields(type(config))]
    references = [value.reference for value in values if isinstance(value, Artifact)]
    for reference in references:
        _require(stage, reference, plan)
    return references


def _require(stage: Stage, reference: str, plan: Plan) -> None:
    makes = stage.inputs.get(reference)
    if any(planned.name == makes and planned.to_do for planned in plan.stages):
        raise wrong_input(
            "E405",
            f"{reference}, which the conversations of stage `{stage.name}` need, is not there yet",
            help=f"make it: nanochat-run {plan.recipe.path} --until {makes}",
        )
