"""Configuration of `activation_checkpointing`, and which blocks it has computed again."""

from nanochat.config import config, option


@config
class ActivationCheckpointingConfig:
    """Blocks that keep only their input, and are computed again in the backward pass: less memory, the same gradients,
    up to a third more time. Take it where not even one row fits; a smaller device_batch_size costs less.
    """

    every: int = option(
        1, minimum=1, maximum=1024, execution=True, doc="of so many blocks, one is computed again; 1: all of them"
    )

    def recomputes(self, block: int) -> bool:
        """Whether a block, counted from 0, is computed again."""
        return block % self.every == 0
