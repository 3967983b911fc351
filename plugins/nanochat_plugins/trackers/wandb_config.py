"""Configuration of `wandb`."""

from pathlib import Path

from nanochat.config import config, option
from nanochat_plugins.trackers.needed import lacking


@config
class WandbConfig:
    """Curves in Weights & Biases, a run for each stage and a group for each recipe's run. `wandb login` first, or take
    `mode = "offline"`, and `wandb sync` afterwards.
    """

    project: str = option("nanochat", doc="of which project the runs are")
    entity: str = option("", doc="whose project it is; without: your own")
    tags: list[str] = option([], doc="what the runs are found by")
    mode: str = option("online", choices=("online", "offline"), execution=True, doc="offline: on this disk alone")
    folder: Path | None = option(
        None, execution=True, doc="where wandb keeps its files; without: each stage's own folder"
    )

    def problems(self) -> list[str]:
        """The package that is missing."""
        return lacking("wandb")
