"""The transform `activation_checkpointing`: chosen blocks are computed again in the backward pass (arXiv 1604.06174).

In: a model whose `blocks` are a list of modules. Out: the same model; parameters and their names are as they were.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from nanochat.errors import stage_failure
from nanochat.runtime import Runtime
from nanochat_plugins.transforms.activation_checkpointing_config import ActivationCheckpointingConfig


def build(config: ActivationCheckpointingConfig, model: Any, runtime: Runtime) -> Any:  # noqa: ARG001
    """The model, its blocks changed in place. StageError E115 for a model without blocks."""
    blocks = getattr(model, "blocks", None)
    if not isinstance(blocks, nn.ModuleList):
        raise stage_failure(
            "E115",
            f"activation_checkpointing: {type(model).__name__} has no list of modules called `blocks`",
            help="leave the transform out, or lower device_batch_size instead",
        )
    for index, block in enumerate(blocks):
        if config.recomputes(index):
            block.forward = partial(_recomputed, block.forward)
    return model


def _recomputed(forward: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """The block's own forward, whose intermediate values are not kept where gradients will be wanted."""
    if not torch.is_grad_enabled():
        return forward(*arguments, **keywords)
    return checkpoint(forward, *arguments, use_reentrant=False, **keywords)
