"""Configuration of `adamw`, and the bytes that it needs."""

from collections.abc import Sequence
from math import prod
from typing import ClassVar

from nanochat.config import Problem, config, option

FACTORED_BLOCK, FACTORED_PARTS = 2**20, 4
"""Of a gradient in factors, so many numbers are multiplied out at once, 4 MB, and no more than one part in so many: a
(1024, 256) would else stand whole. Smaller blocks cost: of a (3072, 768), 2**16 numbers take 1.6 times the step.
"""


@config
class AdamWConfig:
    """Adam with decoupled weight decay (arXiv 1711.05101). It updates whatever there is; take it for embeddings, the
    head and single numbers, and `muon` for the matrices of the blocks.
    """

    lr: float = option(0.001, minimum=0.0, maximum=1e3, doc="learning rate at its peak, before lr_factor")
    beta1: float = option(0.8, minimum=0.0, maximum=1.0, doc="decay a step of the mean gradient")
    beta2: float = option(0.95, minimum=0.0, maximum=1.0, doc="decay a step of the mean squared gradient")
    eps: float = option(1e-10, minimum=0.0, maximum=1.0, doc="added to the root of the mean squared gradient")
    weight_decay: float = option(0.0, minimum=0.0, maximum=1e6, doc="share of a weight that a step takes off, over lr")

    elementwise: ClassVar[bool] = True
    """Each number is updated by its own gradient alone, so that processes can share out the rows of a parameter."""

    def problems(self) -> list[Problem]:
        """A beta of 1 would never take up a gradient; torch refuses it."""
        return [(name, f"{name} is below 1") for name in ("beta1", "beta2") if getattr(self, name) >= 1.0]

    def state_bytes(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """Two float32 moments of every number, and a step count of every parameter."""
        return sum(2 * 4 * prod(shape) + 4 for shape in shapes)

    def workspace_bytes(self, shapes: Sequence[tuple[int, ...]], *, element_bytes: int) -> int:  # noqa: ARG002
        """None: the fused step works in place."""
        return 0
