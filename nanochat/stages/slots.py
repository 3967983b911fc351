"""The keys of a component's table beside the component's own: weights of data, patterns of groups, intervals."""

from nanochat.config import config, option


@config
class SourceSlot:
    """[stages.X.data.NAME] of a stage that reads documents."""

    weight: float = option(
        1.0, minimum=0.0, maximum=1e9, doc="share of the tokens (of a tokenizer: characters), relative to the others"
    )


@config
class TaskSlot:
    """[stages.X.data.NAME] of a stage that reads conversations."""

    epochs: int = option(
        1, minimum=1, maximum=1_000_000, doc="how often each example occurs in one pass; with `weight`, at most"
    )
    weight: float | None = option(
        None,
        minimum=0.0,
        maximum=1e9,
        doc="share of a pass's examples, relative to other weights of its phase; the scarcest task sets the length",
    )
    max_examples: int | None = option(None, minimum=1, maximum=10**12, doc="use only this many of the task's examples")
    phase: int = option(
        0,
        minimum=0,
        maximum=1_000_000,
        doc="a curriculum: tasks of a lower phase come first; those of one phase are shuffled together",
    )
    bad_conversations: str = option(
        "error",
        choices=("error", "skip"),
        doc="of roles out of order, empty, unknown parts; skip: left out and counted",
    )


@config
class GroupSlot:
    """[stages.X.optim.NAME]: which parameters, and how their learning rate follows the model's and batch's size."""

    match: str | list[str] = option(doc="glob patterns of parameter names; each parameter is in exactly one group")
    scale_lr: list[str] = option([], choices=("batch", "width"), doc="batch: × √(B/2^19); width: × (dim/768)^-½")
    lr_factor: float = option(derive="optim.lr_factor", minimum=0.0, maximum=1e6, doc="what lr is multiplied by")


@config
class EvalSlot:
    """[stages.X.evals.NAME]: when it is measured."""

    every: int | None = option(
        None, minimum=1, maximum=1_000_000_000, doc="steps between evaluations; without it, once at the end"
    )
