"""The evaluation stage: a checkpoint, measured."""

from nanochat.stages import evaluation
from nanochat.stages.context import Record, StageContext
from nanochat.stages.evaluate_config import EvaluateConfig
from nanochat.stages.same_data import check_same_data
from nanochat.stages.subject import Subject
from nanochat.training.checkpoint import load_checkpoint


def run(config: EvaluateConfig, context: StageContext) -> Record:
    """Load the checkpoint, run every evaluation."""
    loaded = load_checkpoint(config.checkpoint.folder(), context.runtime, context.registry)
    subject = Subject(
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        runtime=context.runtime,
        build=context.build,
        sources={name: context.build(source) for name, source in config.data.items()},
        tools=loaded.tools,
        progress=context.reporter.progress,
        note=context.reporter.note,
        should_stop=context.should_stop,
    )
    check_same_data(subject.sources, context.runtime)
    figures = evaluation.run_evals(config.evals, subject, context)
    context.reporter.metrics(0, evaluation.values(figures))
    return Record(figures=figures)
