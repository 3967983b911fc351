"""Transforms against the model that they change: what one of them would only refuse when the stage runs.

In: filled drafts. Out: problems E115, where the config of a transform refuses the parameters of the stage's model, or
the transforms beside it.
"""

from typing import Any

from nanochat.recipe.check import Failed
from nanochat.recipe.derive import Resolver
from nanochat.recipe.draft import Part, RecipeDraft
from nanochat.recipe.groups import stage_layout
from nanochat.recipe.notation import key_text
from nanochat.recipe.problems import Problems


def check_transforms(recipe: RecipeDraft, resolver: Resolver, problems: Problems) -> None:
    """Look at every stage that has transforms."""
    for stage in recipe.stages.values():
        found = stage.config.fields.get("transforms")
        transforms = [part for part in found.values() if isinstance(part, Part)] if isinstance(found, dict) else []
        asked = [(part, refuses) for part in transforms if callable(refuses := _refuses(part, resolver))]
        layout = stage_layout(stage, resolver, problems) if asked else {}
        for part, refuses in asked if layout else []:
            try:
                reason = refuses(layout, [other.use for other in transforms if other is not part])
            except Exception as fault:  # a plugin's method
                message = f"refuses() of the transform `{part.use}` failed: {type(fault).__name__}: {fault}"
                problems.add("E202", message, at=part.location, subject="refuses")
                continue
            if reason:
                problems.add("E115", f"{key_text(part.path)}: {reason}", at=part.location, subject="refuses")


def _refuses(part: Part, resolver: Resolver) -> Any:
    try:
        return getattr(resolver.config(part.config), "refuses", None)
    except Failed:
        return None
