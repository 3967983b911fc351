"""Configuration of the evaluation stage."""

from typing import Any, ClassVar

from nanochat.config import Artifact, artifact, components, config, option
from nanochat.stages.slots import EvalSlot, SourceSlot


@config
class EvaluateConfig:
    """Measure a checkpoint."""

    produces: ClassVar[str] = "figures"
    numeric: ClassVar[bool] = True

    checkpoint: Artifact = artifact("checkpoint")
    evals: dict[str, Any] = components("eval", slot=EvalSlot)
    data: dict[str, Any] = components("source", slot=SourceSlot, optional=True, doc="sources for evals that read them")
    batch_rows: int = option(32, minimum=1, execution=True, doc="conversations generated at once")
