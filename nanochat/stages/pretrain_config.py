"""Configuration of the pretraining stage."""

from typing import Any, ClassVar

from nanochat.config import Artifact, Component, artifact, component, components, config, option
from nanochat.stages.slots import SourceSlot
from nanochat.stages.training_config import TrainingConfig
from nanochat.training.schedule_config import ScheduleConfig


@config
class PretrainConfig(TrainingConfig):
    """Train a model from scratch, or from a checkpoint's weights (`init`), on documents, to predict the next token.
    This is where nearly all time goes; its length is set by `steps`, else by `target_flops`, else follows from the
    model's size by `tokens_per_param`.
    """

    produces: ClassVar[str] = "checkpoint"

    tokenizer: Artifact = artifact("tokenizer", doc="what cuts the documents into tokens")
    model: Component = component("model", doc="the model to train")
    init: Artifact | None = artifact(
        "checkpoint", optional=True, doc="a model of the same parameters, whose weights to start from instead of noise"
    )
    data: dict[str, Any] = components("source", slot=SourceSlot, doc="a mixture of sources")
    schedule: ScheduleConfig = option(ScheduleConfig(), doc="rates over the run")

    steps: int = option(derive="pretrain.steps", minimum=1, maximum=1_000_000_000, doc="optimizer steps")
    tokens_per_param: float = option(
        12.0, minimum=1e-6, maximum=1e9, doc="training tokens over matmul parameters, where steps is auto"
    )
    target_flops: float | None = option(
        None, minimum=1.0, maximum=1e30, doc="training FLOPs where steps is auto, instead of tokens_per_param"
    )
    total_batch_size: int = option(
        derive="pretrain.total_batch_size", minimum=1, maximum=10_000_000_000, doc="tokens of a step"
    )
    packing: str = option("best_fit", choices=("best_fit", "stream"), doc="how documents are cut into rows")
    packing_buffer: int = option(1_000, minimum=1, maximum=10_000_000, doc="documents a lane chooses from")
