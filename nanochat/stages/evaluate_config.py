"""Configuration of the evaluation stage."""

from typing import Any, ClassVar

from nanochat.config import Artifact, artifact, components, config
from nanochat.stages.slots import EvalSlot, SourceSlot


@config
class EvaluateConfig:
    """Measure a finished checkpoint by any evaluations, once; it trains nothing. Take it at a recipe's end: the report
    shows its figures, and evaluations may be changed without training again.
    """

    produces: ClassVar[str] = "figures"

    checkpoint: Artifact = artifact("checkpoint", doc="the model to measure")
    evals: dict[str, Any] = components("eval", slot=EvalSlot, doc="what is measured, all of it at once")
    data: dict[str, Any] = components("source", slot=SourceSlot, optional=True, doc="sources for evals that read them")
