"""The model of a stage: what it trains or measures, whether its own or that of a checkpoint it starts from."""

import attrs

from nanochat.config import Artifact, Component
from nanochat.recipe.artifacts import NotRecorded, recorded
from nanochat.recipe.resolved import Recipe, Stage
from nanochat.registry import Registry


def model_of(stage: Stage, recipe: Recipe, registry: Registry) -> Component | None:
    """The model that a stage trains or measures: its own, or its checkpoint's. None: unknown."""
    own = getattr(stage.config, "model", None)
    if isinstance(own, Component):
        return own
    for field in attrs.fields(type(stage.config)):
        artifact = getattr(stage.config, field.name)
        if isinstance(artifact, Artifact) and artifact.kind == "checkpoint":
            if artifact.reference in stage.inputs:
                return model_of(recipe.stages[stage.inputs[artifact.reference]], recipe, registry)
            try:
                config = recorded(artifact.folder(), ["model"], registry)
            except NotRecorded:
                return None
            return Component(kind="model", name="model", use=type(config).__name__, revision=0, config=config)
    return None
