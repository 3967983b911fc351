"""A run as plain data: how it stands, how long it took, what came out, where it came from.

In: a run folder. Out: what `nanochat runs` and `nanochat runs show` print, as a table or as JSON. Looking disturbs
nobody: a run that is going on is looked at too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nanochat.running import provenance
from nanochat.running.figures import FinishedStage, attempts_at, finished_stages, headline
from nanochat.running.find import tag_of
from nanochat.running.handover import Handover
from nanochat.running.json_file import read_lines
from nanochat.running.lease import is_held
from nanochat.running.progress import amount
from nanochat.running.run_folder import EVENTS, RunFolder, RunStage
from nanochat.running.store import StageFolder, bytes_in

STATES = ("running", "finished", "stopped", "failed", "unfinished")
_ENDINGS = ("stage_stopped", "stage_failed")
_PROVENANCE = ("argv", "cwd", "user", "host", "python", "platform", "machine")


def summary(run: RunFolder) -> dict[str, Any]:
    """A run in one row: the figures are those of the last stage that measured any."""
    stages, planned = finished_stages(run), run.plan.get("stages", [])
    events = list(read_lines(run.path / EVENTS))
    return {
        "run": run.path.name,
        "recipe": str(run.plan.get("recipe", "")),
        "folder": str(run.path),
        "started": run.started,
        "state": _state(run, len(stages) == len(planned), events),
        "done": len(stages),
        "planned": len(planned),
        "seconds": round(spent(events) + so_far(begun(run, events)), 1),
        "stages": [_stage(stage, events) for stage in run.stages],
        "figures": _measured(stages),
    }


def details(run: RunFolder) -> dict[str, Any]:
    """Everything about a run: its stages one by one, and its provenance."""
    events = list(read_lines(run.path / EVENTS))
    environment = run.environment
    plugins = [plugin for plugin in environment.get("plugins", []) if plugin.get("status") == "ok"]
    return {
        **summary(run),
        "first_started": next((str(event["time"]) for event in events if event.get("event") == "run_started"), ""),
        "bytes": bytes_in(run.path),
        "stages": [_stage_details(run, stage, events) for stage in run.stages],
        "provenance": {
            "source_trees": environment.get("source_trees", []),
            **{name: environment.get(name) for name in _PROVENANCE},
            "plugins": {plugin["name"]: plugin["version"] for plugin in plugins},
        },
    }


def _state(run: RunFolder, complete: bool, events: Sequence[Mapping[str, Any]]) -> str:
    """One of STATES."""
    if is_held(run.path):
        return "running"
    return "finished" if complete else ending(events)


def ending(events: Sequence[Mapping[str, Any]]) -> str:
    """How the last attempt that left a word ended: stopped or failed; unfinished where it was killed, or succeeded."""
    started = [str(event.get("event")) for event in events if str(event.get("event")).startswith("stage_")]
    return started[-1].removeprefix("stage_") if started and started[-1] in _ENDINGS else "unfinished"


def _measured(stages: Sequence[FinishedStage]) -> dict[str, Any]:
    measured = [stage.figures for stage in stages if headline(stage.figures)]
    return dict(measured[-1]) if measured else {}


def spent(events: Sequence[Mapping[str, Any]]) -> float:
    """Seconds of the attempts at stages that ended."""
    return sum(float(e.get("seconds", 0.0)) for e in events if str(e.get("event")).startswith("stage_"))


def begun(run: RunFolder, events: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The event of the beginning of the attempt that is at work, if the run goes on and has begun one."""
    told = [e for e in events if e.get("event") == "run_started" or str(e.get("event")).startswith("stage_")]
    going_on = bool(told) and told[-1].get("event") == "stage_started" and is_held(run.path)
    return told[-1] if going_on else None


def so_far(attempt: Mapping[str, Any] | None, stage: str | None = None) -> float:
    """Seconds since an attempt began, if it is one at this stage, or at any."""
    if attempt is None or stage not in (None, attempt.get("stage")):
        return 0.0
    return provenance.age(str(attempt["time"]))


def _stage(stage: RunStage, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A stage in a list: what it is, how it stands, where it lies."""
    return {
        "stage": stage.name,
        "use": stage.use,
        "key": stage.folder.key,
        "state": standing(stage.folder, attempts_at(stage.name, events)),
        "folder": str(stage.folder.path),
    }


def _stage_details(run: RunFolder, stage: RunStage, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The same, and what came out."""
    folder, record = stage.folder, stage.folder.record or {}
    own = attempts_at(stage.name, events)
    return {
        **_stage(stage, events),
        "tag": tag_of(folder),
        "run": record.get("run", run.path.name),
        "started": record.get("started", ""),
        "finished": record.get("finished", ""),
        "seconds": record.get("seconds", round(spent(own) + so_far(begun(run, events), stage.name), 1)),
        "bytes": bytes_in(folder.path),
        "figures": record.get("figures", {}),
        **{name: record[name] for name in ("world_size", "device", "dtype") if name in record},
    }


def stage_state(folder: StageFolder, attempts: Sequence[Mapping[str, Any]]) -> str:
    """One of STATES. attempts: the run's events of them."""
    if folder.record is not None:
        return "finished"
    return "running" if is_held(folder.path) else ending(attempts)


def standing(folder: StageFolder, attempts: Sequence[Mapping[str, Any]]) -> str:
    """The same in words: finished · running, 12 of 400 steps · stopped at step 8 · failed · not begun."""
    state, step = stage_state(folder, attempts), folder.last_checkpoint
    if state == "finished":
        return state
    if state == "running":
        progress = Handover(folder.path).progress()
        return f"running, {amount(progress)}" if progress else "running"
    if step is not None:
        return f"{state} at step {step}"
    return state if attempts else "not begun"
