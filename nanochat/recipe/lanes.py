"""Whether processes and batches fit the lanes of a stage's data, before a stage is started that would find it out then.

In: filled drafts. Out: problems E115.
"""

from nanochat.hardware import Hardware
from nanochat.recipe.batches import BATCH
from nanochat.recipe.check import Failed
from nanochat.recipe.derive import Resolver
from nanochat.recipe.draft import Cell, RecipeDraft, StageDraft
from nanochat.recipe.notation import key_text
from nanochat.recipe.problems import Problems

LANES, DETERMINISM, STEPS = "lanes", "determinism", "steps"


def check_lanes(recipe: RecipeDraft, resolver: Resolver, problems: Problems) -> None:
    """Look at every stage that has lanes."""
    for stage in recipe.stages.values():
        cell, hardware = stage.config.fields.get(LANES), stage.hardware.built
        if isinstance(cell, Cell) and isinstance(hardware, Hardware):
            try:
                lanes = resolver.value(cell)
                _check_processes(cell, lanes, hardware, problems)
                _check_elastic(stage, cell, lanes, hardware, resolver, problems)
            except Failed:
                continue


def _check_processes(cell: Cell, lanes: int, hardware: Hardware, problems: Problems) -> None:
    processes = hardware.nodes * hardware.nproc_per_node
    if lanes % processes:
        fitting = [str(size) for size in range(1, lanes + 1) if lanes % size == 0]
        message = f"{key_text(cell.path)} is {lanes}, which {processes} processes cannot share equally"
        remedy = f"start {' or '.join(fitting[-6:])} processes, or set `lanes` to a multiple of {processes}"
        problems.add("E115", message, at=cell.place, subject=LANES, help=remedy)


def _check_elastic(
    stage: StageDraft, cell: Cell, lanes: int, hardware: Hardware, resolver: Resolver, problems: Problems
) -> None:
    """The sum over lanes is a tree of halves, each of whose leaves has as many rows of every step."""
    wanted = stage.config.fields.get(DETERMINISM)
    if not isinstance(wanted, Cell) or resolver.value(wanted) != "elastic":
        return
    elastic = f'{key_text(wanted.path)} = "elastic"'
    if hardware.shard == "full":
        message, remedy = f'{elastic} does not go with shard = "full"', 'set shard = "optimizer" in its hardware'
        problems.add("E115", message, at=wanted.place, subject=DETERMINISM, help=remedy)
    if lanes & (lanes - 1):
        remedy = f"use {1 << (lanes.bit_length() - 1)} or {1 << lanes.bit_length()}"
        problems.add(
            "E115", f"{elastic} wants lanes in a power of 2, not {lanes}", at=cell.place, subject=LANES, help=remedy
        )
    steps = stage.config.fields.get(STEPS)
    if isinstance(steps, Cell) and resolver.value(steps) is None:
        message = f"{elastic} wants `steps`: how far a pass over the data is, each process measures on its own share"
        problems.add("E115", message, at=wanted.place, subject=DETERMINISM, help="set `steps` of the stage")
    batch, length = stage.config.fields.get(BATCH), getattr(resolver.model(stage), "sequence_len", None)
    if isinstance(batch, Cell) and isinstance(length, int) and resolver.value(batch) % (length * lanes):
        unit = f"{length:,} tokens a row × {lanes} lanes, of which {elastic} computes each alone"
        message = f"{key_text(batch.path)} is {resolver.value(batch):,}, no multiple of {unit}"
        remedy = f"use a multiple of {length * lanes:,}, or fewer lanes"
        problems.add("E115", message, at=batch.place, subject=BATCH, help=remedy)
