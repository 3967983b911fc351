"""The tracker `wandb`: a stage's figures as a run of Weights & Biases.

In: figures. Out: what wandb writes and sends. The steps are a figure of their own, `step`, that all curves are drawn
against: wandb's own count refuses a step that was there, as one is that a stage repeats after it was killed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanochat_plugins.trackers.identity import described, identity
from nanochat_plugins.trackers.wandb_config import WandbConfig

if TYPE_CHECKING:
    import wandb

START_SECONDS = 40
"""For wandb to reach its server at the beginning; with END_SECONDS, less than a stage waits for at its end."""
END_SECONDS = 45


class Wandb:
    """A run of wandb."""

    _run: "wandb.Run"

    def __init__(self, config: WandbConfig) -> None:
        import wandb

        self._config, self._wandb = config, wandb

    def start(self, record: Mapping[str, Any]) -> None:
        config = self._config
        folder = config.folder or Path(record["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        self._run = self._wandb.init(
            entity=config.entity or None,
            project=config.project,
            group=record["run"],
            name=f"{record['run']}/{record['stage']}",
            id=identity(record, "wandb"),
            resume="allow",
            reinit="create_new",
            mode="offline" if config.mode == "offline" else "online",
            dir=folder,
            tags=config.tags,
            config=described(record),
            settings=self._wandb.Settings(
                silent=True,
                console="off",
                init_timeout=START_SECONDS,
                login_timeout=START_SECONDS,
                finish_timeout=END_SECONDS,
            ),
        )
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log({"step": step, **figures})

    def finish(self, record: Mapping[str, Any]) -> None:
        for name, figure in record.get("figures", {}).items():
            self._run.summary[name] = figure["value"]
        self._run.finish(exit_code=int(record["state"] == "failed"))
