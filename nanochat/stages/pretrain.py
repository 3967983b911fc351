"""The pretraining stage: a model from scratch or from a checkpoint's weights, on a mixture of sources."""

from collections.abc import Mapping
from typing import Any

from nanochat.data.prefetch import Prefetch
from nanochat.data.pretrain_loader import PretrainLoader
from nanochat.data.source import Source
from nanochat.runtime import Runtime
from nanochat.stages.context import Record, StageContext
from nanochat.stages.initial_weights import load_initial_weights
from nanochat.stages.pretrain_config import PretrainConfig
from nanochat.stages.same_data import check_same_data
from nanochat.stages.subject import Subject
from nanochat.stages.training_faults import rows_of_a_rank
from nanochat.stages.training_stage import TrainingStage
from nanochat.text.tokenizer import Tokenizer
from nanochat.training import checkpoint


def run(config: PretrainConfig, context: StageContext) -> Record:
    """Build model and loader, train, evaluate."""
    runtime = context.runtime
    tokenizer = Tokenizer.load(config.tokenizer.folder())
    model = new_model(config, tokenizer, context)
    sources = {name: context.build(source) for name, source in config.data.items()}
    check_same_data(sources, runtime)
    loader = new_loader(config, sources, tokenizer, runtime)
    subject = Subject(
        model=model,
        tokenizer=tokenizer,
        runtime=runtime,
        build=context.build,
        sources=sources,
        note=context.reporter.note,
        should_stop=context.should_stop,
    )
    stage = TrainingStage(
        context=context,
        config=config,
        model=model,
        described_model=checkpoint.describe(config.model),
        tokenizer=tokenizer,
        loader=loader,
        subject=subject,
        steps=config.steps,
        fraction=lambda step: step / config.steps,
    )
    return stage.execute()


def new_loader(
    config: PretrainConfig, sources: Mapping[str, Source], tokenizer: Tokenizer, runtime: Runtime
) -> Prefetch:
    """The rows of this rank, made ahead."""
    sequence_len = config.model.config.sequence_len
    made = PretrainLoader(
        {name: (source, config.data[name].slot.weight) for name, source in sources.items()},
        tokenizer,
        rows=rows_of_a_rank(config.total_batch_size, sequence_len, runtime.world_size),
        sequence_len=sequence_len,
        packing=config.packing,
        buffer=config.packing_buffer,
        lanes=config.lanes,
        document_mask=config.document_mask,
        rank=runtime.rank,
        world_size=runtime.world_size,
    )
    return Prefetch(made, pin_for=runtime.device if runtime.device.type == "cuda" else None)


def new_model(config: PretrainConfig, tokenizer: Tokenizer, context: StageContext) -> Any:
    """The stage's model with fresh weights, or with those of `init`, and its transforms applied."""
    model = context.build(config.model, context.runtime)
    if config.init is not None:
        load_initial_weights(config.init, model, tokenizer, context)
    for transform in config.transforms.values():
        model = context.build(transform, model, context.runtime)
    return model
