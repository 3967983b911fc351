"""The work of one worker process: a stage of a locked recipe, from its inputs to its result.

In: a run folder, a stage's name, its folder in the store. Out: result.json, or stopped.json with `Stopped`, or an
exception. The recipe is read from the run's lock, where every value stands already: nothing is derived anew on another
machine.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch

from nanochat.errors import NanochatError, Stopped, stage_failure
from nanochat.recipe.load import load_recipe, locate
from nanochat.recipe.resolved import Recipe, Stage
from nanochat.registry import Registry, load_registry
from nanochat.running.handover import Handover
from nanochat.running.json_file import read_json
from nanochat.running.reporter import FileReporter, NotedWarnings, SilentReporter
from nanochat.running.run_folder import EVENTS, LOCK
from nanochat.running.stop import StopRequests
from nanochat.running.store import CONFIG, checkpoint_steps, folder_at
from nanochat.running.tracker import Audience
from nanochat.runtime import Runtime, distributed_runtime
from nanochat.stages.context import Record, StageContext

_MEMORY_SETTINGS = ("device_batch_size",)
"""Execution fields that bound a stage's memory without changing its result."""


def execute(run: Path, name: str, folder: Path, requests: StopRequests) -> None:
    """Run the stage in this process."""
    registry = load_registry()
    recipe = load_recipe(run / LOCK, registry=registry)
    stage = recipe.stages[name]
    config = locate(stage, Handover(folder).inputs())
    audience = Audience(name, recipe.trackers, registry)
    hardware = stage.hardware
    with distributed_runtime(
        device=hardware.device,
        dtype=hardware.dtype,
        seed=recipe.seed if stage.seeded else 0,  # which is not in its key, and so may decide nothing
        attention=hardware.attention,
        matmul_precision=hardware.matmul_precision,
        shard=hardware.shard,
        timeout_seconds=hardware.timeout_seconds,
    ) as runtime:
        runtime.seed_everything()
        if not runtime.is_main:
            _run(stage, config, folder, runtime, registry, SilentReporter(), requests)
            return
        reporter = FileReporter(name, folder, run / EVENTS, audience)
        if not checkpoint_steps(folder):
            reporter.truncate_metrics(-1)
        with NotedWarnings(reporter):
            audience.start(_description(run, recipe, stage, folder))
            try:
                record = _run(stage, config, folder, runtime, registry, reporter, requests)
            except BaseException as ending:
                if isinstance(ending, Stopped):
                    Handover(folder).write_stopped(reporter.done, reporter.total, reporter.unit)
                audience.finish({"state": "stopped" if isinstance(ending, Stopped) else "failed"})
                raise
            result = _result(record, runtime)
            Handover(folder).write_result(result)  # before trackers are waited for
            audience.finish({"state": "done", "figures": result["figures"]})


def _run(
    stage: Stage,
    config: Any,
    folder: Path,
    runtime: Runtime,
    registry: Registry,
    reporter: FileReporter | SilentReporter,
    requests: StopRequests,
) -> Record:
    context = StageContext(
        stage=stage.name,
        folder=folder,
        key=described.key if (described := folder_at(folder)) else "",
        runtime=attrs.evolve(runtime, note=reporter.note),
        registry=registry,
        reporter=reporter,
        # The ranks agree in here, so all of them must ask equally often, at the same points of their loops.
        should_stop=lambda: runtime.any(requests.asked),
        stop_asked=lambda: requests.asked,
        take_save_request=requests.take_save,
    )
    try:
        record = registry.builder("stage", stage.use)(config, context)
    except (MemoryError, RuntimeError) as fault:
        if is_out_of_memory(fault):
            raise out_of_memory(stage, fault) from fault
        raise
    if not isinstance(record, Record):
        raise stage_failure("E403", f"stage plugin `{stage.use}` returned {type(record).__name__}, not a Record")
    return record


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether an allocation failed: Python's, CUDA's, or torch's CPU allocator, which raises a bare RuntimeError."""
    return isinstance(fault, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(fault)


def out_of_memory(stage: Stage, fault: BaseException) -> NanochatError:
    """What was asked for, and the setting to lower."""
    asked = (str(fault).strip().splitlines() or [type(fault).__name__])[0]
    advice = "; ".join(
        _lower(stage.name, name, getattr(stage.config, name))
        for name in _MEMORY_SETTINGS
        if hasattr(stage.config, name)
    )
    return stage_failure(
        "E502",
        f"stage `{stage.name}` ran out of memory: {asked}",
        help=(advice or "give the stage less data at once, or a machine with more memory")
        + "; what was saved before is intact",
    )


def _lower(stage: str, name: str, value: int | str) -> str:
    if isinstance(value, str):
        return f"{name} is {value}: set a number, --set stages.{stage}.{name}=1 if need be; the result stays the same"
    smaller = max(1, value // 2)
    return f"lower it: --set stages.{stage}.{name}={smaller} (now {value}; the result stays the same)"


def _description(run: Path, recipe: Recipe, stage: Stage, folder: Path) -> dict[str, Any]:
    return {
        "run": run.name,
        "recipe": recipe.name,
        "stage": stage.name,
        "use": stage.use,
        "folder": str(folder),
        "step": max(checkpoint_steps(folder), default=0),
        "settings": (read_json(folder / CONFIG) or {}).get("values", {}),
    }


def _result(record: Record, runtime: Runtime) -> dict[str, Any]:
    figures: Mapping[str, Any] = {name: attrs.asdict(figure) for name, figure in record.figures.items()}
    for figure in figures.values():
        if not figure["data"]:
            del figure["data"]
        for part, value in figure.items():
            if isinstance(value, float) and not math.isfinite(value):
                figure[part] = None  # JSON has no NaN
    return {
        "artifact": record.artifact,
        "figures": figures,
        "data": dict(record.data),
        "world_size": runtime.world_size,
        "device": str(runtime.device.type),
        "dtype": str(runtime.dtype).removeprefix("torch."),
    }
