"""The finetuning stage: a checkpoint goes on learning, from conversations. Serves midtraining and SFT alike."""

from typing import Any, cast

import attrs
import torch

from nanochat.data.finetune_loader import FinetuneLoader
from nanochat.data.prefetch import Prefetch
from nanochat.data.task_mixture import TaskShare
from nanochat.inference.grammar import refuse_tools
from nanochat.runtime import Runtime
from nanochat.stages.context import Record, StageContext
from nanochat.stages.finetune_config import FinetuneConfig
from nanochat.stages.inheritance import inherit_rates
from nanochat.stages.subject import Subject
from nanochat.stages.training_faults import rows_of_a_rank
from nanochat.stages.training_stage import TrainingStage
from nanochat.training.checkpoint import load_checkpoint


def run(config: FinetuneConfig, context: StageContext) -> Record:
    """Load the model, build the mixture, train, evaluate."""
    runtime = context.runtime
    loaded = load_checkpoint(config.init.folder(), runtime, context.registry)
    model = loaded.model
    for transform in config.transforms.values():
        model = context.build(transform, model, runtime)
    if config.inherit_lr:
        inherited = inherit_rates(config.optim, model, config.init, runtime)
        config = cast(FinetuneConfig, attrs.evolve(cast(Any, config), optim=inherited))
    sequence_len = loaded.meta["model"]["config"]["sequence_len"]
    made = FinetuneLoader(
        {name: TaskShare(task=context.build(task), **attrs.asdict(task.slot)) for name, task in config.data.items()},
        loaded.tokenizer,
        rows=rows_of_a_rank(config.total_batch_size, sequence_len, runtime.world_size),
        sequence_len=sequence_len,
        loss_on=config.loss_on,
        buffer=config.packing_buffer,
        lanes=config.lanes,
        document_mask=config.document_mask,
        seed=runtime.seed,
        rank=runtime.rank,
        world_size=runtime.world_size,
    )
    loader = Prefetch(made, pin_for=runtime.device if runtime.device.type == "cuda" else None)
    steps, tools = config.steps, [context.build(tool) for tool in config.tools.values()]
    refuse_tools(tools, loaded.tokenizer)
    subject = Subject(
        model=model,
        tokenizer=loaded.tokenizer,
        runtime=runtime,
        build=context.build,
        tools=tools,
        note=context.reporter.note,
        should_stop=context.should_stop,
    )
    stage = TrainingStage(
        context=context,
        config=config,
        model=model,
        described_model=loaded.meta["model"],
        tokenizer=loaded.tokenizer,
        tools=config.tools,
        loader=loader,
        subject=subject,
        steps=steps,
        fraction=(lambda step: step / steps) if steps is not None else (lambda _: mean_progress(loader, runtime)),
        lr_factor=config.lr_factor,
        warm_start=config.init if config.warm_start else None,
    )
    return stage.execute()


def mean_progress(loader: Prefetch, runtime: Runtime) -> float:
    """The share of the first pass that all ranks together have consumed; every rank gets the same answer."""
    return float(runtime.sum(torch.tensor(loader.progress))) / runtime.world_size
