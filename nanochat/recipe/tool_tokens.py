"""Whether a stage's tools are called by special tokens that its tokenizer has, before anything is trained.

In: filled drafts. Out: problems E115, where a tool's class says which tokens call it, and a stage of the recipe trains
the tokenizer. What cannot be known here the worker looks at again.
"""

from nanochat.errors import InputError
from nanochat.recipe.draft import Cell, Link, Part, RecipeDraft, StageDraft
from nanochat.recipe.initial_model import tokenizer_behind
from nanochat.recipe.problems import Problems
from nanochat.registry import Registry
from nanochat.text.special import SPECIAL_TOKENS


def check_tool_tokens(recipe: RecipeDraft, registry: Registry, problems: Problems) -> None:
    """Look at the tools of every stage that starts from a checkpoint."""
    for stage in recipe.stages.values():
        tools = [part for part in stage.config.parts() if part.kind == "tool"]
        init = stage.config.fields.get("init")
        if not tools or not isinstance(init, Link):
            continue
        tokenizer = tokenizer_behind(init)
        if tokenizer is None or tokenizer.stage is None:
            continue
        more = tokenizer.stage.config.fields.get("special_tokens")
        if isinstance(more, Cell) and more.state == "done":
            known = {*SPECIAL_TOKENS, *more.value}
            for part in tools:
                _check(stage, part, tokenizer.stage.name, known, registry, problems)


def _check(
    stage: StageDraft, part: Part, tokenizer: str, known: set[str], registry: Registry, problems: Problems
) -> None:
    try:
        made_by = registry.object("tool", part.use)
    except InputError:  # a broken plugin, which is reported elsewhere
        return
    pair = [getattr(made_by, name, None) for name in ("start", "end")]
    tokens = [token for token in pair if isinstance(token, str)]
    if missing := [token for token in tokens if token not in known]:
        listed = ", ".join(f'"{token}"' for token in tokens)
        problems.add(
            "E115",
            f"the tool `{part.use}` of stage `{stage.name}` is called by {missing[0]}, which stage:{tokenizer} lacks",
            at=part.use_leaf.place,
            subject=part.use,
            help=f"set stages.{tokenizer}.special_tokens = [{listed}]",
        )
