"""A plugin in a loose file, for the tests of the runner: a stage that counts, resumes, stops and fails on demand.

NANOCHAT_PLUGINS_DIR names its folder. What needs torch is imported where it is used: the runner loads this file too.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from nanochat.config import Artifact, artifact, config, option
from nanochat.errors import Stopped, stage_failure, wrong_input
from nanochat.hooks import Registrar, hookimpl

HERE = "nanochat_loose_counting"


@config
class CountConfig:
    """Count `steps` steps, from 0 or from what another stage reached."""

    produces: ClassVar[str] = "checkpoint"

    init: Artifact | None = artifact("checkpoint", optional=True)
    steps: int = option(3, minimum=1)
    device_batch_size: int = option(8, minimum=1, execution=True)
    tag: str = option("counted", execution=True, name=True)
    checkpoint_every: int | None = option(None, minimum=1, execution=True)
    pause: float = option(0.0, minimum=0.0, execution=True, doc="seconds a step")
    trouble: str = option("", execution=True, doc="what goes wrong at step 2")


@config
class GradeConfig:
    """Look at a count."""

    produces: ClassVar[str] = "figures"

    of: Artifact = artifact("checkpoint")


@config
class DiaryConfig:
    """A tracker that writes into a file."""

    path: str = option()


@hookimpl
def register_stages(registry: Registrar) -> None:
    registry.add("count", build=f"{HERE}:count", config=f"{HERE}:CountConfig")
    registry.add("evaluate_count", build=f"{HERE}:grade", config=f"{HERE}:GradeConfig")


@hookimpl
def register_trackers(registry: Registrar) -> None:
    registry.add("diary", build=f"{HERE}:Diary", config=f"{HERE}:DiaryConfig")


@hookimpl
def on_step(stage: str, step: int, figures: Mapping[str, float]) -> None:
    raise ValueError(f"an observer that fails at {stage} {step} {sorted(figures)}")


@hookimpl
def before_stage(stage: str, folder: str) -> None:
    raise ValueError("an observer that fails before")


@hookimpl
def validate_recipe(recipe: Any) -> list[str] | None:
    return ["thirteen stages bring bad luck"] if recipe.name == "unlucky" else None


class Diary:
    """Writes down what it is told."""

    def __init__(self, settings: DiaryConfig) -> None:
        self.path = Path(settings.path)

    def start(self, record: Mapping[str, Any]) -> None:
        self._write(f"start {record['stage']}")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._write(f"step {step} {figures['loss']:g}")
        if step == 2:
            raise ValueError("a tracker that fails")

    def finish(self, record: Mapping[str, Any]) -> None:
        self._write(f"finish {record['state']}")

    def _write(self, line: str) -> None:
        with self.path.open("a") as file:
            file.write(line + "\n")


def read_count(checkpoint: Path) -> int:
    """The count in a checkpoint of `count`."""
    found: int = json.loads((checkpoint / "count.json").read_text())["count"]
    return found


def count(settings: CountConfig, context: Any) -> Any:
    """The stage: every rank counts, rank 0 saves."""
    from nanochat.stages.context import Figure, Record

    start = read_count(settings.init.folder()) if settings.init is not None else 0
    made = sorted((context.folder / "checkpoints").glob("step_*"))
    step = int(made[-1].name.removeprefix("step_")) if made else 0
    if step:
        context.reporter.truncate_metrics(step)
        context.reporter.note(f"goes on from step {step}")
    while step < settings.steps:
        step += 1
        time.sleep(settings.pause)
        if step == 2:
            cause(settings.trouble, context)
        context.reporter.metrics(step, {"loss": 1.0 / step, "tokens_per_second": 100.0})
        context.reporter.progress(step, settings.steps, {"loss": 1.0 / step, "tokens": 10.0 * step})
        due = settings.checkpoint_every is not None and step % settings.checkpoint_every == 0
        if context.runtime.any(due or context.take_save_request()) and step < settings.steps:
            save(context, step, start)
        if context.should_stop() and step < settings.steps:
            save(context, step, start)
            raise Stopped
    save(context, step, start)
    figures = {"count.count": Figure(value=float(start + step), n=1), "steps": Figure(value=float(step))}
    return Record(artifact=f"checkpoints/step_{step:06d}", figures=figures)


def save(context: Any, step: int, start: int) -> None:
    """A checkpoint that appears whole, unless this step has one."""
    final = context.folder / "checkpoints" / f"step_{step:06d}"
    if context.runtime.is_main and not final.exists():
        writing = final.with_name(f".writing_{step:06d}")
        writing.mkdir(parents=True)
        (writing / "count.json").write_text(json.dumps({"count": start + step}))
        (writing / "MANIFEST.json").write_text("{}")
        writing.rename(final)
    context.runtime.barrier()


def cause(trouble: str, context: Any) -> None:
    """Go wrong in one of the ways a stage can."""
    if trouble == "input":
        raise wrong_input("E302", "the corpus is empty", help="give it a document")
    if trouble == "stage":
        raise stage_failure("E501", "the loss is nan")
    if trouble == "bug":
        raise ZeroDivisionError("a bug")
    if trouble == "memory":
        import torch

        torch.empty(1 << 60)
    if trouble == "disk":
        with Path("/dev/full").open("w") as file:
            file.write("x" * 100_000)
    last = context.runtime.rank == context.runtime.world_size - 1
    if trouble == "last rank hangs" and last:
        threading.Event().wait()
    if trouble == "killed" or (trouble == "last rank killed" and last):
        os.kill(os.getpid(), signal.SIGKILL)


def grade(settings: GradeConfig, context: Any) -> Any:
    """An evaluation stage in miniature."""
    from nanochat.stages.context import Figure, Record

    value = 1.0 if read_count(settings.of.folder()) else 0.0
    context.reporter.progress(1, 1, {})
    return Record(figures={"counting.accuracy": Figure(value=value, n=200, standard_error=0.01)})
