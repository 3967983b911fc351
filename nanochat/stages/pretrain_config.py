"""Configuration of the pretraining stage."""

from typing import Any, ClassVar

from nanochat.config import Artifact, Component, artifact, component, components, config, option
from nanochat.stages.slots import EvalSlot, GroupSlot, SourceSlot
from nanochat.training.schedule_config import ScheduleConfig


@config
class PretrainConfig:
    """Train a model from scratch on documents, to foretell the next token. This is where nearly all time goes; its
    length is set by `steps`, or follows from the model's size by `tokens_per_param`.
    """

    produces: ClassVar[str] = "checkpoint"

    tokenizer: Artifact = artifact("tokenizer", doc="what cuts the documents into tokens")
    model: Component = component("model", doc="the model to train")
    data: dict[str, Any] = components("source", slot=SourceSlot, doc="a mixture of sources")
    optim: dict[str, Any] = components("optimizer", slot=GroupSlot, doc="the parameter groups")
    transforms: dict[str, Any] = components(
        "transform", optional=True, doc="changes of the model before it is compiled"
    )
    evals: dict[str, Any] = components(
        "eval", slot=EvalSlot, optional=True, doc="what is measured during training and at its end"
    )
    schedule: ScheduleConfig = option(ScheduleConfig(), doc="rates over the run")

    steps: int = option(derive="pretrain.steps", minimum=1, doc="optimizer steps")
    tokens_per_param: float = option(
        12.0, minimum=0.0, doc="training tokens over matmul parameters, where steps is auto"
    )
    total_batch_size: int = option(derive="pretrain.total_batch_size", minimum=1, doc="tokens of a step")
    device_batch_size: int = option(32, minimum=1, execution=True, doc="rows that a process computes at once")
    packing: str = option("best_fit", choices=("best_fit", "stream"), doc="how documents are cut into rows")
    packing_buffer: int = option(1_000, minimum=1, doc="documents a lane chooses from")
    lanes: int = option(8, minimum=1, doc="fixed lanes of the data order; the process count divides it")
    grad_clip: float = option(0.0, minimum=0.0, doc="largest norm of the gradient; 0: no clipping")
    compile: bool = option(False, execution=True, doc="torch.compile the model")
    log_every: int = option(10, minimum=1, execution=True, doc="steps between lines of metrics.jsonl")
    tag: str = option(execution=True, derive="training.tag", name=True, doc="what its checkpoints are called")
    checkpoint_minutes: float = option(10.0, minimum=0.0, execution=True, doc="longest time between checkpoints")
    checkpoint_every: int | None = option(None, minimum=1, execution=True, doc="steps between checkpoints as well")
    checkpoints_kept: int = option(2, minimum=1, execution=True, doc="the newest are kept; --resume goes back to one")
