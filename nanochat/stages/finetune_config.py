"""Configuration of the finetuning stage: midtraining and SFT."""

from typing import Any, ClassVar

from nanochat.config import Artifact, artifact, components, config, option
from nanochat.stages.slots import TaskSlot
from nanochat.stages.training_config import TrainingConfig
from nanochat.training.schedule_config import ScheduleConfig


@config
class FinetuneConfig(TrainingConfig):
    """Go on training a checkpoint on conversations, with the loss on the assistant's words alone. Take it to make a
    pretrained model answer: midtraining, SFT, or both, one stage each.
    """

    produces: ClassVar[str] = "checkpoint"

    init: Artifact = artifact("checkpoint", doc="the model to start from")
    data: dict[str, Any] = components("task", slot=TaskSlot, doc="a mixture of tasks, shuffled together")
    tools: dict[str, Any] = components("tool", optional=True, doc="tools the model may call; kept with the checkpoint")
    schedule: ScheduleConfig = option(
        ScheduleConfig(
            warmup_steps=0,
            warmdown_ratio=0.5,
            final_lr=0.0,
            momentum_peak=0.95,
            momentum_end=0.95,
            momentum_warmup_steps=300,
        ),
        doc="rates over the run",
    )

    steps: int | None = option(
        None, minimum=1, maximum=1_000_000_000, doc="optimizer steps; without it, one pass over the mixture"
    )
    lr_factor: float = option(0.8, minimum=0.0, maximum=1e6, doc="multiplies every group's learning rate")
    inherit_lr: bool = option(
        False, doc="peak learning rates are those that the init checkpoint was trained with, not the groups' own `lr`"
    )
    warm_start: bool = option(
        False, doc="optimizers begin with the state of the init checkpoint's: momentum, second moments, their steps"
    )
    total_batch_size: int = option(524_288, minimum=1, maximum=10_000_000_000, doc="tokens of a step, padding included")
    loss_on: str = option("assistant", choices=("assistant", "all"), doc="all: midtraining on every token")
    packing_buffer: int = option(100, minimum=1, maximum=10_000_000, doc="conversations a lane chooses from")
