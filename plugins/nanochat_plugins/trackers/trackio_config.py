"""Configuration of `trackio`."""

from pathlib import Path

from nanochat.config import config, option
from nanochat_plugins.trackers.needed import lacking


@config
class TrackioConfig:
    """Curves in trackio's own file on this machine: `trackio show` draws them, without an account. Or in a Space of
    the Hugging Face Hub.
    """

    project: str = option("nanochat", doc="of which project the runs are")
    space: str = option("", doc="a Space to send the figures to, OWNER/NAME; without: this machine alone")
    folder: Path | None = option(
        None, execution=True, doc="where trackio keeps its files; without: where it does by itself"
    )

    def problems(self) -> list[str]:
        """The package that is missing."""
        return lacking("trackio")
