"""The weights that a pretraining goes on from: another checkpoint's, into a model that the stage itself declares.

Weights only: optimizers, schedules and the place in the data begin anew. Not here: going on with the stage's own
checkpoint, which takes all of these up.
"""

import json

from torch import nn

from nanochat.config import Artifact
from nanochat.errors import stage_failure
from nanochat.stages.context import StageContext
from nanochat.text.tokenizer import Tokenizer
from nanochat.training.manifest import verify_model
from nanochat.training.saved_model import SavedModel


def load_initial_weights(init: Artifact, model: nn.Module, tokenizer: Tokenizer, context: StageContext) -> None:
    """Copy a checkpoint's weights into the model. StageError E115 where they do not fit, E406 where it is broken."""
    folder = init.folder()
    verify_model(folder)
    if json.loads((folder / "meta.json").read_text())["tokenizer"] != tokenizer.digest:
        raise _unfit(context, init, "it was trained with another tokenizer")
    found = SavedModel(folder, context.runtime.device).whole()
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    for name in [*own, *found]:
        if name not in found or name not in own:
            raise _unfit(context, init, f"`{name}` is only {'there' if name in found else 'here'}")
        if found[name].shape != own[name]:
            raise _unfit(context, init, f"`{name}` is {tuple(found[name].shape)} there and {tuple(own[name])} here")
    model.load_state_dict(found)
    context.reporter.note(f"starts from the weights of {init.reference}")


def _unfit(context: StageContext, init: Artifact, reason: str) -> Exception:
    return stage_failure(
        "E115",
        f"stage `{context.stage}` cannot start from {init.reference}: {reason}",
        help="give the stage the checkpoint's own model and tokenizer, or leave `init` out",
    )
