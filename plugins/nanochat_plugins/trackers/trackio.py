"""The tracker `trackio`: a stage's figures in trackio's SQLite file, or in a Space of the Hugging Face Hub.

In: figures. Out: what trackio writes. trackio finds a run again by its name, so that has the stage's identity in it.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nanochat_plugins.trackers.identity import described, identity
from nanochat_plugins.trackers.trackio_config import TrackioConfig

if TYPE_CHECKING:
    from trackio.run import Run


class Trackio:
    """A run of trackio."""

    _run: "Run"

    def __init__(self, config: TrackioConfig) -> None:
        if config.folder is not None:
            config.folder.mkdir(parents=True, exist_ok=True)  # trackio only warns of one that cannot be made
            os.environ["TRACKIO_DIR"] = str(config.folder)  # read once, while trackio is imported
        import trackio

        self._config, self._trackio = config, trackio

    def start(self, record: Mapping[str, Any]) -> None:
        self._run = self._trackio.init(
            project=self._config.project,
            name=f"{record['run']}-{record['stage']}-{identity(record, 'trackio')}",
            group=record["run"],
            space_id=self._config.space or None,
            config=described(record),
            resume="allow",
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def finish(self, record: Mapping[str, Any]) -> None:  # noqa: ARG002 (its last figures were logged)
        self._run.finish()  # type: ignore[no-untyped-call]
