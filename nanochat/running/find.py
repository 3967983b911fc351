"""Finding what was made: runs by name, checkpoints by run, stage, step or path.

In: what a person writes as CHECKPOINT on a command line. Out: a folder. Nothing is loaded here.

    quickstart · quickstart-1f0a9c22 · quickstart/sft · base-91be77d0 · base-91be77d0@400 · some/folder · (nothing)
"""

from collections.abc import Iterable
from pathlib import Path

import attrs

from nanochat.errors import InputError, wrong_input
from nanochat.home import expanded, runs_dir
from nanochat.running.run_folder import PLAN, RunFolder
from nanochat.running.store import CHECKPOINTS, StageFolder, Store, checkpoint_folder, checkpoint_steps

MANIFEST = "MANIFEST.json"
"""What makes a folder a checkpoint."""
_TRAIN = "train one: nanochat-run recipes/quickstart.toml"


@attrs.frozen(kw_only=True)
class Found:
    """A stage's folder in the store and what is known of it."""

    name: str
    use: str
    folder: StageFolder

    @property
    def finished(self) -> str:
        """When, as ISO text; empty where it is not finished."""
        return str((self.folder.record or {}).get("finished", ""))


def find_checkpoint(argument: str | None = None) -> Path:
    """The folder of a checkpoint. InputError E405 where there is none."""
    if argument is None:
        return _newest().artifact
    place = expanded(argument)
    if (place / MANIFEST).is_file():
        return place.absolute()
    name, at, step = argument.rpartition("@") if "@" in place.name else (argument, "", "")
    if at and not step.isdecimal():
        raise wrong_input("E405", f"`@{step}` is no step", help="write NAME@STEP, for example quickstart/base@400")
    folder = _stage_folder(name, finished=not at)
    return _at_step(folder, int(step)) if at else folder.artifact


def find_run(argument: str | None = None) -> RunFolder:
    """A run by folder, name or recipe's name (the newest of that name); without one, the newest. InputError E405."""
    runs = list_runs()
    if argument is None:
        if runs:
            return runs[0]
        raise wrong_input("E405", "there is no run yet", help=_TRAIN)
    place = expanded(argument)
    if (place / PLAN).exists():
        return RunFolder(place.absolute())
    for run in runs:
        if argument in (run.path.name, run.plan.get("recipe")):
            return run
    known = ", ".join(run.path.name for run in runs[:8]) or "none"
    raise wrong_input("E405", f"there is no run `{argument}`", help=f"the runs there are: {known}")


def list_runs() -> list[RunFolder]:
    """Every run, newest first."""
    plans = [path for path in runs_dir().glob(f"*/{PLAN}") if path.is_file()]
    return [RunFolder(path.parent) for path in sorted(plans, key=lambda p: p.stat().st_mtime, reverse=True)]


def _newest() -> StageFolder:
    """The newest finished chat model; where nothing was finetuned, the newest pretrained one."""
    made = [_found(folder) for folder in Store() if (folder.record or {}).get("produces") == "checkpoint"]
    chosen = [found for found in made if found.use != "pretrain"] or made
    if not chosen:
        raise wrong_input("E405", "there is no finished model yet", help=_TRAIN)
    return max(chosen, key=lambda found: found.finished).folder


def _found(folder: StageFolder) -> Found:
    record = folder.record or {}
    return Found(name=str(record.get("stage")), use=str(record.get("use")), folder=folder)


def _stage_folder(name: str, *, finished: bool) -> StageFolder:
    """The folder that RUN, RUN/STAGE, or a store folder's name or path stands for."""
    stored = [folder for folder in Store() if folder.path.name == name or folder.path == Path(name).absolute()]
    if stored:
        return _wanted(stored, name, finished=finished)
    try:
        return _wanted(_of_run(find_run(name)), name, finished=finished)
    except InputError:
        run, slash, stage = name.rpartition("/")
        if not slash:
            raise
    found = find_run(run)
    names = [planned.name for planned in found.stages]
    if stage not in names:
        raise wrong_input(
            "E405", f"run `{found.path.name}` has no stage `{stage}`", help=f"its stages are {', '.join(names)}"
        )
    return _wanted(_of_run(found, stage), name, finished=finished)


def _of_run(run: RunFolder, stage: str | None = None) -> list[StageFolder]:
    """The folders of a run's stages that produce checkpoints; the chat models last, as in the plan."""
    return [s.folder for s in run.stages if s.produces == "checkpoint" and stage in (None, s.name)]


def _wanted(folders: Iterable[StageFolder], name: str, *, finished: bool) -> StageFolder:
    """The last that is finished, or, where a step is asked for, the last that has checkpoints."""
    good = [f for f in folders if (f.record is not None if finished else checkpoint_steps(f.path))]
    good = [f for f in good if (f.record or {}).get("produces", "checkpoint") == "checkpoint"]
    if good:
        return good[-1]
    state = "finished model" if finished else "checkpoint"
    raise wrong_input("E405", f"`{name}` has no {state}", help="`nanochat runs` lists what there is")


def _at_step(folder: StageFolder, step: int) -> Path:
    steps = checkpoint_steps(folder.path)
    if step not in steps:
        raise wrong_input(
            "E405",
            f"{folder.path.name} has no checkpoint of step {step} in {CHECKPOINTS}/",
            help=f"it has those of steps {', '.join(map(str, steps)) or 'none'}",
        )
    return checkpoint_folder(folder.path, step)
