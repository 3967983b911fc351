"""Whether a step's tokens can be shared out: batches against rows and processes, and mixtures against nothing at all.

In: filled drafts. Out: problems E115, before a stage is started that would only find it out then.
"""

from nanochat.hardware import Hardware
from nanochat.recipe.check import Failed
from nanochat.recipe.derive import Resolver
from nanochat.recipe.draft import Cell, Draft, Part, RecipeDraft, StageDraft
from nanochat.recipe.notation import key_text
from nanochat.recipe.problems import Problems

BATCH = "total_batch_size"
WEIGHT = "weight"


def check_batches(recipe: RecipeDraft, resolver: Resolver, problems: Problems) -> None:
    """Look at every stage that has a batch or a mixture."""
    for stage in recipe.stages.values():
        try:
            _check_batch(stage, resolver, problems)
            for name, field in stage.config.fields.items():
                if isinstance(field, dict) and name not in stage.config.lost:
                    _check_weights(stage, field, resolver, problems)
        except Failed:
            continue


def _check_batch(stage: StageDraft, resolver: Resolver, problems: Problems) -> None:
    cell, hardware = stage.config.fields.get(BATCH), stage.hardware.built
    length = getattr(resolver.model(stage), "sequence_len", None)
    if not isinstance(cell, Cell) or not isinstance(hardware, Hardware) or not isinstance(length, int):
        return
    processes = hardware.nodes * hardware.nproc_per_node
    tokens = resolver.value(cell)
    if tokens % (length * processes):
        unit = f"{length:,} tokens a row × {processes} process{'es' if processes > 1 else ''}"
        problems.add(
            "E115",
            f"{key_text(cell.path)} is {tokens:,}, no multiple of {unit}",
            at=cell.place,
            subject=BATCH,
            help=f"use a multiple of {length * processes:,}" + (", or fewer processes" if processes > 1 else ""),
        )


def _check_weights(stage: StageDraft, mixture: dict[str, Part], resolver: Resolver, problems: Problems) -> None:
    slots = [part.slot for part in mixture.values() if isinstance(part.slot, Draft)]
    weights = [cell for slot in slots if isinstance(cell := slot.fields.get(WEIGHT), Cell)]
    if weights and len(weights) == len(mixture) and all(resolver.value(cell) == 0 for cell in weights):
        where = key_text(weights[0].path[:-2])
        message = f"every weight in {where} is 0: there is nothing to train on"
        problems.add("E115", message, at=weights[0].place or stage.location, subject=WEIGHT)
