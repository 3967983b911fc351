"""What a training stage cannot do, found out before its first step, where planning could not know it."""

import inspect

from torch import nn

from nanochat.errors import stage_failure
from nanochat.stages.context import StageContext


def refuse_without_documents(model: nn.Module, context: StageContext) -> None:
    """StageError E115 where the model cannot keep attention within documents."""
    if "documents" not in inspect.signature(model.forward).parameters:
        raise stage_failure(
            "E115",
            f"stage `{context.stage}` has document_mask, and its model does not know of documents",
            help="leave document_mask out, or take a model whose forward has a parameter `documents`",
        )


def rows_of_a_rank(total_batch_size: int, sequence_len: int, world_size: int) -> int:
    """Rows that one rank makes for a step. StageError where the numbers do not divide."""
    if total_batch_size % (sequence_len * world_size):
        raise stage_failure(
            "E115",
            f"total_batch_size {total_batch_size} is no multiple of {sequence_len} tokens × {world_size} processes",
            help=f"use a multiple of {sequence_len * world_size}",
        )
    return total_batch_size // sequence_len // world_size
