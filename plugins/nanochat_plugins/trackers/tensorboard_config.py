"""Configuration of `tensorboard`."""

from pathlib import Path

from nanochat.config import config, option
from nanochat_plugins.trackers.needed import lacking


@config
class TensorBoardConfig:
    """Curves for TensorBoard: `tensorboard --logdir ~/.cache/nanochat/store` shows every stage's. Take it where you
    compare runs on one machine.
    """

    folder: Path | None = option(
        None, execution=True, doc="where event files go, a folder for each stage in it; without: each stage's own"
    )
    flush_seconds: int = option(10, minimum=1, maximum=3600, execution=True, doc="between two writes to the disk")

    def problems(self) -> list[str]:
        """The package that is missing."""
        return lacking("tensorboard")
