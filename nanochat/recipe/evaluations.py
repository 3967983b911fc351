"""Whether a stage has what its evaluations measure: a model, and sources.

In: drafts. Out: problems E115. What an evaluation needs its config class says: `needs_model`, True where it says
nothing, and `needs_sources`, else False.
"""

from nanochat.recipe.draft import Part, RecipeDraft, StageDraft
from nanochat.recipe.problems import Problems


def check_evaluations(recipe: RecipeDraft, problems: Problems) -> None:
    """Look at every evaluation of every stage."""
    for stage in recipe.stages.values():
        parts = list(stage.config.parts())
        reads = any(part.kind == "source" for part in parts) or "data" in stage.config.lost
        for part in (part for part in parts if part.kind == "eval"):
            if stage.produces == "tokenizer" and getattr(part.config.cls, "needs_model", True):
                lacks, move = "measures a model", "to a stage that trains or evaluates a model"
            elif getattr(part.config.cls, "needs_sources", False) and not reads:
                lacks, move = (
                    "measures on sources",
                    "to the pretraining stage, or give an evaluate stage a `data` table",
                )
            else:
                continue
            _refuse(stage, part, lacks, move, problems)


def _refuse(stage: StageDraft, part: Part, lacks: str, move: str, problems: Problems) -> None:
    problems.add(
        "E115",
        f"the evaluation `{part.name}` ({part.use}) {lacks}, and the {stage.use} stage `{stage.name}` has none",
        at=part.use_leaf.place,
        subject=part.use,
        help=f"move it {move}",
    )
