"""A stage's key: what decides its result, in one digest.

In: a resolved recipe. Out: sha256 digests as hex. Two stages with one key have one result, whatever they are called
and wherever they run. Not here: which values are identity and which execution; the config classes say that, and the
recipe room obeys.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from nanochat.config import Artifact, Component
from nanochat.recipe.artifacts import artifact_in
from nanochat.recipe.content import content_digest
from nanochat.recipe.resolved import Recipe, Stage
from nanochat.running.json_file import canonical


def stage_keys(recipe: Recipe) -> dict[str, str]:
    """The key of every stage, in the recipe's order."""
    keys: dict[str, str] = {}
    for stage in recipe.stages.values():
        keys[stage.name] = _digest({**stage.identity(seed=recipe.seed), "inputs": input_keys(stage, keys)})
    return keys


def run_digest(keys: Mapping[str, str]) -> str:
    """What tells runs of one name apart: a digest over all their stages."""
    return _digest(dict(keys))


def input_keys(stage: Stage, keys: Mapping[str, str]) -> dict[str, str]:
    """Where the stage takes an artifact (`data.bee.words`) → the key of what it takes."""
    found: dict[str, str] = {}
    for path, artifact in artifacts(stage.config):
        kind, _, rest = artifact.reference.partition(":")
        if kind == "stage":
            found[path] = keys[stage.inputs[artifact.reference]]
        elif kind == "path":
            found[path] = content_digest(artifact_in(artifact.path or Path(rest).expanduser()))
        else:
            found[path] = rest
    return found


def artifacts(config: Any, path: str = "") -> Iterator[tuple[str, Artifact]]:
    """Every artifact reference in a stage's config, with its place below the stage."""
    if isinstance(config, Artifact):
        yield path, config
    elif isinstance(config, Component):
        yield from artifacts(config.config, path)
        yield from artifacts(config.slot, path)
    elif isinstance(config, Mapping):
        for name, value in config.items():
            yield from artifacts(value, f"{path}.{name}" if path else str(name))
    elif attrs.has(type(config)):
        for field in attrs.fields(type(config)):
            yield from artifacts(getattr(config, field.name), f"{path}.{field.name}" if path else field.name)


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogateescape")).hexdigest()
