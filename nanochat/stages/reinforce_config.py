"""Configuration of the reinforcement stage."""

from typing import Any, ClassVar

from nanochat.config import Artifact, Problem, artifact, components, config, option
from nanochat.stages.slots import TaskSlot
from nanochat.stages.training_config import TrainingConfig
from nanochat.training.schedule_config import ScheduleConfig

ONE_ANSWER = "a group of one answer is its own mean: set samples to 2 or more, or baseline to none"
CLIP_WITHOUT_UPDATES = (
    "clip has no effect on the first update of a set of answers, where every ratio is 1: set updates to 2 or more, or "
    "leave clip out"
)


@config
class ReinforceConfig(TrainingConfig):
    """Go on training a checkpoint on its own answers: several are sampled for each problem, its task rewards them, and
    those above their group's mean become likelier (REINFORCE, on-policy). Take it after `finetune`, for tasks that the
    model solves now and then.
    """

    produces: ClassVar[str] = "checkpoint"

    compile: bool = option(
        False, execution=True, doc="torch.compile the model, which is anew for each length of answers"
    )
    init: Artifact = artifact("checkpoint", doc="the model to start from")
    data: dict[str, Any] = components("task", slot=TaskSlot, doc="a mixture of tasks whose answers are rewarded")
    tools: dict[str, Any] = components(
        "tool", optional=True, doc="tools the model may call; without any, those that `init` came with"
    )
    schedule: ScheduleConfig = option(
        ScheduleConfig(
            warmup_steps=0,
            warmdown_ratio=1.0,
            final_lr=0.0,
            momentum_start=0.95,
            momentum_peak=0.95,
            momentum_end=0.95,
            momentum_warmup_steps=0,
        ),
        doc="rates over the run",
    )

    steps: int | None = option(
        None, minimum=1, maximum=1_000_000_000, doc="optimizer steps; without it, one pass over the problems"
    )
    lr_factor: float = option(0.05, minimum=0.0, maximum=1e6, doc="multiplies every group's learning rate")
    problems_per_step: int = option(
        16, minimum=1, maximum=1_000_000, doc="problems answered for a step, by all processes"
    )
    samples: int = option(16, minimum=1, maximum=100_000, doc="answers to each problem: a group")
    temperature: float = option(1.0, minimum=0.05, maximum=100.0, doc="of the sampling; the gradient is that of 1")
    top_k: int = option(50, minimum=0, maximum=10_000_000, doc="sample from the k likeliest tokens alone; 0: from all")
    max_tokens: int = option(256, minimum=1, maximum=1_000_000, doc="longest answer, in tokens")
    baseline: str = option(
        "mean",
        choices=("mean", "leave_one_out", "none"),
        doc="what a reward is compared with: its group's mean, the mean of the others of its group, or nothing",
    )
    normalize: bool = option(False, doc="divide advantages by the standard deviation of their group's rewards")
    updates: int = option(
        1, minimum=1, maximum=1_000, doc="optimizer steps on each set of answers; 1: strictly on-policy"
    )
    clip: float = option(
        0.0,
        minimum=0.0,
        maximum=0.99,
        doc="how far a token's probability ratio may gain from 1 in them; 0: without end",
    )
    kl: float = option(
        0.0, minimum=0.0, maximum=1e6, doc="weight of the divergence from `init`, per token, in the loss"
    )
    held_out: int = option(
        400,
        minimum=0,
        maximum=10_000_000,
        doc="problems that are never trained on, which the eval `pass_at_k` measures",
    )
    rollout_rows: int = option(
        128, minimum=1, maximum=1_000_000, execution=True, doc="answers that a process samples at once"
    )
    rollouts_logged: int = option(
        16,
        minimum=0,
        maximum=1_000_000,
        execution=True,
        doc="problems of a step whose answers go to rollouts-RANK.jsonl",
    )

    def problems(self) -> list[Problem]:
        """What does not fit together."""
        found: list[Problem] = []
        if self.samples == 1 and self.baseline != "none":
            found.append(("samples baseline", ONE_ANSWER))
        if self.samples == 1 and self.normalize:
            found.append(("normalize samples", "a group of one answer has no standard deviation: leave normalize out"))
        if self.clip and self.updates == 1:
            found.append(("clip updates", CLIP_WITHOUT_UPDATES))
        if self.determinism == "elastic":
            found.append(("determinism", 'answers depend on what is sampled beside them: determinism must be "fixed"'))
        if self.document_mask:
            found.append(("document_mask", "a row holds one conversation: leave document_mask out"))
        return found
