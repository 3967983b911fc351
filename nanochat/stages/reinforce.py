"""The reinforcement stage: a checkpoint goes on learning, from the rewards of its own answers."""

from typing import Any

import attrs
from torch import nn

from nanochat.config import Component
from nanochat.data.task import Task
from nanochat.data.task_mixture import TaskShare
from nanochat.errors import stage_failure
from nanochat.stages.context import Record, StageContext
from nanochat.stages.reinforce_config import ReinforceConfig
from nanochat.stages.rollout_loader import RolloutLoader
from nanochat.stages.rollout_log import RolloutLog
from nanochat.stages.subject import Subject
from nanochat.stages.training_stage import TrainingStage
from nanochat.training.checkpoint import Loaded, load_checkpoint, rebuild
from nanochat.training.policy_gradient import PolicyObjective
from nanochat.training.problems import Problems


def run(config: ReinforceConfig, context: StageContext) -> Record:
    """Load the model, draw the problems, train on answers, evaluate."""
    runtime = context.runtime
    loaded = load_checkpoint(config.init.folder(), runtime, context.registry)
    model = loaded.model
    for transform in config.transforms.values():
        model = context.build(transform, model, runtime)
    problems = Problems(
        {name: task_share(task, context) for name, task in config.data.items()},
        loaded.tokenizer,
        held_out=config.held_out,
        longest_prompt=loaded.meta["model"]["config"]["sequence_len"] - 1,
        seed=runtime.seed,
    )
    components = config.tools or kept_tools(loaded, context)
    tools = [context.build(tool) for tool in components.values()]
    loader = RolloutLoader(
        config,
        problems,
        model=model,
        initial=initial_model(config, context),
        tokenizer=loaded.tokenizer,
        tools=tools,
        runtime=runtime,
        should_stop=context.should_stop,
        log=RolloutLog(context.folder / f"rollouts-{runtime.rank}.jsonl"),
        run=lambda: stage.run,
    )
    objective = PolicyObjective(clip=config.clip, kl=config.kl)
    steps = config.steps or -(-len(problems) // config.problems_per_step) * config.updates
    stage = TrainingStage(
        context=context,
        config=config,
        model=model,
        described_model=loaded.meta["model"],
        tokenizer=loaded.tokenizer,
        tools=components,
        loader=loader,
        subject=Subject(
            model=model,
            tokenizer=loaded.tokenizer,
            runtime=runtime,
            build=context.build,
            problems=problems.held_out,
            tools=tools,
            note=context.reporter.note,
            should_stop=context.should_stop,
        ),
        steps=steps,
        fraction=lambda step: step / steps,
        lr_factor=config.lr_factor,
        rows=config.problems_per_step * config.samples // runtime.world_size,
        objective=objective,
        waits_for="rollout_share",
        told=lambda: loader.told() | divergence(config, objective, context),
        shown=lambda: shown(loader, stage),
    )
    return stage.execute()


def task_share(component: Component, context: StageContext) -> TaskShare:
    """A task of the mixture. StageError E115 where it pays no reward."""
    task: Task = context.build(component)
    if not callable(getattr(task, "reward", None)):
        raise stage_failure(
            "E115",
            f"the task `{component.use}` of stages.{context.stage}.data.{component.name} has no `reward`",
            help="nanochat.data.task.Task has one that pays the score; others need reward(conversation, completion)",
        )
    return TaskShare(task=task, **attrs.asdict(component.slot))


def kept_tools(loaded: Loaded, context: StageContext) -> dict[str, Component]:
    """The tools that a checkpoint came with, as the recipe would give them."""
    found = [rebuild("tool", described, context.registry) for described in loaded.meta["tools"]]
    return {tool.name: tool for tool in found}


def initial_model(config: ReinforceConfig, context: StageContext) -> nn.Module | None:
    """The model that the stage began with, whatever it has become meanwhile; None where nothing depends on it."""
    if not config.kl:
        return None
    model: nn.Module = load_checkpoint(config.init.folder(), context.runtime, context.registry).model
    return model.eval().requires_grad_(False)


def divergence(config: ReinforceConfig, objective: PolicyObjective, context: StageContext) -> dict[str, float]:
    """What the objective saw since the last line of metrics, on all ranks: only what is switched on."""
    targets, clipped, diverged = context.runtime.sum(objective.take()).tolist()
    found = {"kl": diverged} if config.kl else {}
    found |= {"clipped": clipped} if config.clip else {}
    return {name: value / max(1.0, targets) for name, value in found.items()}


def shown(loader: RolloutLoader, stage: Any) -> dict[str, float]:
    """For the person who watches: the mean reward of the last answers, and how much of the time answering takes."""
    wait = stage.run.meter.wait
    return {"reward": loader.reward, **({} if wait is None else {"rollout_share": wait})}
