"""Configuration of the finetuning stage: midtraining and SFT."""

from typing import Any, ClassVar

from nanochat.config import Artifact, artifact, components, config, option
from nanochat.stages.slots import EvalSlot, GroupSlot, TaskSlot
from nanochat.training.schedule_config import ScheduleConfig


@config
class FinetuneConfig:
    """Go on training a checkpoint on conversations, with the loss on the assistant's words alone. Take it to make a
    pretrained model answer: midtraining, SFT, or both, one stage each.
    """

    produces: ClassVar[str] = "checkpoint"

    init: Artifact = artifact("checkpoint", doc="the model to start from")
    data: dict[str, Any] = components("task", slot=TaskSlot, doc="a mixture of tasks, shuffled together")
    optim: dict[str, Any] = components("optimizer", slot=GroupSlot, doc="the parameter groups")
    transforms: dict[str, Any] = components(
        "transform", optional=True, doc="changes of the model before it is compiled"
    )
    tools: dict[str, Any] = components("tool", optional=True, doc="tools the model may call; kept with the checkpoint")
    evals: dict[str, Any] = components(
        "eval", slot=EvalSlot, optional=True, doc="what is measured during training and at its end"
    )
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

    steps: int | None = option(None, minimum=1, doc="optimizer steps; without it, one pass over the mixture")
    lr_factor: float = option(0.8, minimum=0.0, doc="multiplies every group's learning rate")
    total_batch_size: int = option(524_288, minimum=1, doc="tokens of a step, padding included")
    device_batch_size: int = option(32, minimum=1, execution=True, doc="rows that a process computes at once")
    loss_on: str = option("assistant", choices=("assistant", "all"), doc="all: midtraining on every token")
    packing_buffer: int = option(100, minimum=1, doc="conversations a lane chooses from")
    lanes: int = option(8, minimum=1, doc="fixed lanes of the data order; the process count divides it")
    grad_clip: float = option(0.0, minimum=0.0, doc="largest norm of the gradient; 0: no clipping")
    compile: bool = option(False, execution=True, doc="torch.compile the model")
    log_every: int = option(10, minimum=1, execution=True, doc="steps between lines of metrics.jsonl")
    tag: str = option(execution=True, derive="training.tag", name=True, doc="what its checkpoints are called")
    checkpoint_minutes: float = option(10.0, minimum=0.0, execution=True, doc="longest time between checkpoints")
    checkpoint_every: int | None = option(None, minimum=1, execution=True, doc="steps between checkpoints as well")
    checkpoints_kept: int = option(2, minimum=1, execution=True, doc="the newest are kept; --resume goes back to one")
