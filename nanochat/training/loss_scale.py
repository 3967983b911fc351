"""The loss scale of float16, whose gradients would be zeros without one.

In: whether a step's gradients overflowed. Out: the factor on the next step's loss. It grows by itself until gradients
overflow; such a step is skipped and the factor halved (arXiv 1710.03740, section 3.2). All ranks see the same summed
gradients, so all of them agree.
"""

from collections.abc import Mapping
from typing import Any

import attrs

from nanochat.errors import stage_failure

GROWTH_STEPS = 2_000
"""Steps without overflow after which the factor is doubled."""


@attrs.define(kw_only=True)
class LossScale:
    """A power of 2."""

    factor: float = 2.0**16
    clean_steps: int = 0
    """Since the last change of the factor."""
    skipped: int = 0
    """Steps that changed no weight."""

    def accepts(self, *, overflowed: bool) -> bool:
        """Note how a step's gradients were; False: skip it. StageError E501 where no factor is left to try."""
        if not overflowed:
            self.clean_steps += 1
            if self.clean_steps == GROWTH_STEPS:
                self.factor, self.clean_steps = 2 * self.factor, 0
            return True
        self.factor, self.clean_steps, self.skipped = self.factor / 2, 0, self.skipped + 1
        if self.factor < 1:
            raise stage_failure(
                "E501",
                "the gradients overflow float16 even unscaled",
                help='set dtype = "bfloat16" or "float32" in [hardware]; the last checkpoint is intact',
            )
        return False

    def figures(self) -> dict[str, float]:
        """For a line of metrics."""
        return {"loss_scale": self.factor, "skipped_steps": float(self.skipped)}

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return attrs.asdict(self)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on with what `state` gave."""
        self.factor = float(state["factor"])
        self.clean_steps, self.skipped = int(state["clean_steps"]), int(state["skipped"])
