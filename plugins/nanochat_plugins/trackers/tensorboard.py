"""The tracker `tensorboard`: a stage's figures as scalars in event files.

In: figures. Out: `events.out.tfevents…` in the stage's folder, or below the one that the config names. A stage that
goes on from a checkpoint tells TensorBoard from which step on what it wrote before is void.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanochat_plugins.trackers.identity import described
from nanochat_plugins.trackers.tensorboard_config import TensorBoardConfig

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class TensorBoard:
    """Writes event files."""

    _writer: "SummaryWriter"

    def __init__(self, config: TensorBoardConfig) -> None:
        self._config = config

    def start(self, record: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        own, step = Path(record["folder"]), record["step"]
        folder = own / "tensorboard" if self._config.folder is None else self._config.folder / own.name
        void_from = step + 1 if step else 0
        self._writer = SummaryWriter(str(folder), purge_step=void_from, flush_secs=self._config.flush_seconds)
        if not step:
            self._writer.add_text("settings", _table(described(record)), 0)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def finish(self, record: Mapping[str, Any]) -> None:  # noqa: ARG002 (its last figures were logged)
        self._writer.close()


def _table(settings: Mapping[str, Any]) -> str:
    return "\n".join(
        ["| key | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in settings.items())]
    )
