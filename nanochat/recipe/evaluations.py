"""Whether a stage has what its evaluations measure, a model and sources; whether a test split is kept from training.

In: drafts, filled. Out: problems E115. What an evaluation needs its config class says: `needs_model`, True where it
says nothing, and `needs_sources`, else False. A stage that has optimizers trains; what it learns from, and what it
measures on the way, decides its result and what a person does next: a task's `split = "test"` is for an evaluate stage.
"""

from nanochat.recipe.draft import Cell, Part, RecipeDraft, StageDraft
from nanochat.recipe.notation import key_text
from nanochat.recipe.problems import Problems


def check_evaluations(recipe: RecipeDraft, problems: Problems) -> None:
    """Look at every evaluation of every stage."""
    for stage in recipe.stages.values():
        parts = list(stage.config.parts())
        reads = any(part.kind == "source" for part in parts) or "data" in stage.config.lost
        for part in (part for part in parts if part.kind == "eval"):
            if stage.produces == "tokenizer" and getattr(part.config.cls, "needs_model", True):
                lacks, move = "measures a model", "to a stage that trains or evaluates a model"
            elif needs_sources(part.config.cls) and not reads:
                lacks, move = (
                    "measures on sources",
                    "to the pretraining stage, or give an evaluate stage a `data` table",
                )
            else:
                continue
            _refuse(stage, part, lacks, move, problems)


def needs_sources(config: type) -> bool:
    """Whether an evaluation with such a config measures on the sources of its stage."""
    return bool(getattr(config, "needs_sources", False))


def check_splits(recipe: RecipeDraft, problems: Problems) -> None:
    """Look at the split of every task of every stage that trains."""
    for stage in recipe.stages.values():
        parts = list(stage.config.parts())
        if not any(part.kind == "optimizer" for part in parts):
            continue
        for part in parts:
            split = part.config.fields.get("split") if part.kind == "task" else None
            if isinstance(split, Cell) and split.state == "done" and split.value == "test":
                problems.add(
                    "E115",
                    f"the stage `{stage.name}` trains, and `{key_text(part.path)}` is the test split of `{part.use}`",
                    at=split.place,
                    subject="split",
                    help="take `validation` where the task has it, else a slice of `train` by `start` and `stop` that "
                    'nothing learns from; the test split is measured in a stage with use = "evaluate"',
                )


def _refuse(stage: StageDraft, part: Part, lacks: str, move: str, problems: Problems) -> None:
    problems.add(
        "E115",
        f"the evaluation `{part.name}` ({part.use}) {lacks}, and the {stage.use} stage `{stage.name}` has none",
        at=part.use_leaf.place,
        subject=part.use,
        help=f"move it {move}",
    )
