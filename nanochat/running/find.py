"""Finding what was made: runs by name; checkpoints by run, stage, tag, key or path.

In: what a person writes as RUN or CHECKPOINT on a command line. Out: a run, or a checkpoint's folder. Nothing is loaded
here.

    quickstart · quickstart-1f0a9c22 · quickstart/sft · d4_w192_h3 · base-91be77d0 · 91be77d0 · some/folder · (nothing)

Each may be followed by @STEP. Where a name fits several results, the newest finished one is meant.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from nanochat.errors import InputError, did_you_mean, wrong_input
from nanochat.home import expanded, runs_dir
from nanochat.recipe.artifacts import KEY_CHARACTERS
from nanochat.running.json_file import read_json
from nanochat.running.run_folder import PLAN, RunFolder
from nanochat.running.store import (
    CHECKPOINTS,
    StageFolder,
    Store,
    checkpoint_folder,
    checkpoint_folders,
    checkpoint_steps,
    folder_at,
    is_step,
    newest_first,
)

MANIFEST = "MANIFEST.json"
"""What makes a folder a checkpoint."""
META = "meta.json"
_TRAIN = "train one: nanochat-run recipes/quickstart.toml"


def find_checkpoint(argument: str | None = None) -> Path:
    """The folder of a checkpoint. InputError E405 where there is none, or the name may mean several things."""
    if argument is None:
        return _newest_model().artifact
    place = expanded(argument)
    if (place / MANIFEST).is_file():
        return place.absolute()
    name, at, step = argument.rpartition("@") if "@" in place.name else (argument, "", "")
    if at and not is_step(step):
        raise wrong_input("E405", f"`@{step}` is no step", help="write NAME@STEP, for example quickstart/base@400")
    folders = _meant(name) if name else [_newest_model()]
    if at:
        return _at_step(name or folders[-1].path.name, folders, int(step))
    finished = [folder for folder in folders if folder.record is not None]
    if not finished:
        raise wrong_input("E405", f"`{name}` has no finished model", help=_unfinished(folders))
    return finished[-1].artifact


def find_checkpoints(names: Sequence[str] = ()) -> list[Path]:
    """All checkpoints, set aside ones too, of what is named; without a name, of the store. InputError E405."""
    if not names:
        return [path for folder in Store() for path in checkpoint_folders(folder.path)]
    found: dict[Path, None] = {}
    for name in names:
        place = expanded(name)
        if place.is_dir() and ((place / MANIFEST).is_file() or place.name.startswith(("step_", "broken_"))):
            found[place.absolute()] = None
        else:
            found |= dict.fromkeys(path for folder in _meant(name) for path in checkpoint_folders(folder.path))
    return [*found]


def find_run(argument: str | None = None) -> RunFolder:
    """A run by folder, name or recipe's name (the newest of that name); without one, the newest. InputError E405."""
    runs = list_runs()
    if argument is None:
        if runs:
            return runs[0]
        raise wrong_input("E405", "there is no run yet", help=_TRAIN)
    found = _runs_called(argument, runs)
    if found:
        return found[0]
    known = ", ".join(run.path.name for run in runs[:8]) or "none"
    near = did_you_mean(argument, dict.fromkeys(name for run in runs for name in _names(run)))
    raise wrong_input("E405", f"there is no run `{argument}`", help=near or f"the runs there are: {known}")


def the_run(argument: str) -> RunFolder:
    """The one run of a folder or name. InputError E405 where there is none, or several have the name."""
    found = _runs_called(argument, list_runs())
    if len(found) > 1:
        known = ", ".join(run.path.name for run in found)
        raise wrong_input("E405", f"{len(found)} runs are called `{argument}`", help=f"name one: {known}")
    return RunFolder(find_run(argument).path.resolve())


def find_stage(argument: str) -> tuple[RunFolder | None, StageFolder]:
    """A stage's result by RUN/STAGE, folder, folder's name or key, and the run that made it, where it is still there.

    InputError E405 where there is none.
    """
    run_name, slash, name = argument.rpartition("/")
    runs = _runs_called(run_name, list_runs()) if slash else []
    if runs:
        stages = {stage.name: stage.folder for stage in runs[0].stages}
        if name not in stages:
            known = did_you_mean(name, stages) or f"its stages are {', '.join(stages)}"
            raise wrong_input("E405", f"run `{runs[0].path.name}` has no stage `{name}`", help=known)
        return runs[0], stages[name]
    folder = folder_at(expanded(argument).absolute()) or folder_at(Store().root / argument) or Store().by_key(argument)
    made = RunFolder(folder.path.parent.with_name("runs") / str((folder.record or {}).get("run", "")))
    return (made if made.plan else None), folder


def list_runs(folder: Path | None = None) -> list[RunFolder]:
    """Every run in a folder, by default that of this home: what was started last comes first.

    When that was is what they recorded; files that were copied have the time of the copy.
    """
    runs = [RunFolder(plan.parent) for plan in newest_first((folder or runs_dir()).glob(f"*/{PLAN}"))]
    return sorted(runs, key=lambda run: run.started, reverse=True)


def tag_of(folder: StageFolder) -> str:
    """The tag of a stage's checkpoints, as its record has it, or its newest checkpoint; empty where they have none."""
    described = folder.record
    if described is None and folder.last_checkpoint is not None:
        described = read_json(checkpoint_folder(folder.path, folder.last_checkpoint) / META)
    return str((described or {}).get("tag", ""))


def _newest_model() -> StageFolder:
    """The newest finished chat model; where nothing was finetuned, the newest pretrained one."""
    made = [folder for folder in _in_order(list(Store())) if (folder.record or {}).get("produces") == "checkpoint"]
    chosen = [folder for folder in made if (folder.record or {}).get("use") != "pretrain"] or made
    if not chosen:
        raise wrong_input("E405", "there is no finished model yet", help=_TRAIN)
    return chosen[-1]


def _meant(name: str) -> list[StageFolder]:
    """The folders that a name stands for, the newest finished one last. InputError E405: none, or unclear."""
    stored, runs = list(Store()), list_runs()
    meanings = _meanings(name, stored, runs)
    if not meanings:
        known = [*(n for run in runs for n in _names(run)), *(f.path.name for f in stored), *map(tag_of, stored)]
        stages = [f"{n}/{stage.name}" for run in runs for n in _names(run) for stage in run.stages]
        near = did_you_mean(name, dict.fromkeys(n for n in [*known, *stages] if n))
        message = f"there is no run, stage, tag or checkpoint `{name}`"
        raise wrong_input("E405", message, help=near or "`nanochat runs` lists what there is")
    if len(meanings) > 1 or len(meanings.get("a key", ())) > 1:
        readings = " and ".join(
            f"{meaning} ({', '.join(folder.path.name for folder in folders)})" for meaning, folders in meanings.items()
        )
        message = f"`{name}` may mean {readings}"
        raise wrong_input("E405", message, help="name one of these folders, or RUN/STAGE")
    (folders,) = meanings.values()
    return _in_order([f for f in folders if (f.record or {}).get("produces", "checkpoint") == "checkpoint"])


def _meanings(
    name: str, stored: Sequence[StageFolder], runs: Sequence[RunFolder]
) -> Mapping[str, Sequence[StageFolder]]:
    """What a name can mean → the stage folders it then stands for."""
    at_place = folder_at(expanded(name).absolute())
    if at_place is not None:
        return {"a path": [at_place]}
    by_name = [folder for folder in stored if folder.path.name == name]
    if by_name:
        return {"a folder of the store": by_name}
    found: dict[str, Sequence[StageFolder]] = {}
    called = _runs_called(name, runs)
    if called:
        found["a run"] = [folder for run in reversed(called) for folder in _checkpoints_of(run)]
    run_name, slash, stage = name.rpartition("/")
    called = _runs_called(run_name, runs) if slash else []
    if called:
        found["a stage of a run"] = _of_stage(called, stage)
    if tagged := [folder for folder in stored if tag_of(folder) == name]:
        found["a tag"] = tagged[::-1]
    if keyed := [folder for folder in stored if len(name) >= KEY_CHARACTERS and folder.key.startswith(name)]:
        found["a key"] = keyed
    return found


def _runs_called(name: str, runs: Sequence[RunFolder]) -> list[RunFolder]:
    """The runs in a folder, or of a name: one by its own, or all of a recipe, newest first."""
    place = expanded(name)
    if (place / PLAN).exists():
        return [RunFolder(place.absolute())]
    return [run for run in runs if run.path.name == name] or [run for run in runs if name in _names(run)]


def _names(run: RunFolder) -> tuple[str, str]:
    return run.path.name, str(run.plan.get("recipe", ""))


def _checkpoints_of(run: RunFolder, stage: str | None = None) -> list[StageFolder]:
    """The folders of a run's stages that make checkpoints, in the plan's order."""
    return [s.folder for s in run.stages if s.produces == "checkpoint" and stage in (None, s.name)]


def _of_stage(runs: Sequence[RunFolder], stage: str) -> list[StageFolder]:
    names = dict.fromkeys(planned.name for run in runs for planned in run.stages)
    if stage not in names:
        message = f"run `{runs[0].path.name}` has no stage `{stage}`"
        near = did_you_mean(stage, names)
        raise wrong_input("E405", message, help=near or f"its stages are {', '.join(names)}")
    return [folder for run in reversed(runs) for folder in _checkpoints_of(run, stage)]


def _in_order(folders: Sequence[StageFolder]) -> list[StageFolder]:
    """Unfinished ones first, then by when they were finished."""
    return sorted(folders, key=lambda folder: str((folder.record or {}).get("finished", "")))


def _at_step(name: str, folders: Sequence[StageFolder], step: int) -> Path:
    """The checkpoint of a step, in the newest of these folders that has it."""
    having = [folder for folder in folders if step in checkpoint_steps(folder.path)]
    if having:
        return checkpoint_folder(having[-1].path, step)
    raise no_such_step(name, folders, step)


def no_such_step(name: str, folders: Sequence[StageFolder], step: int) -> InputError:
    """The error that lists the steps there are."""
    steps = [f"{f.path.name} {', '.join(map(str, checkpoint_steps(f.path)))}" for f in folders]
    known = "; ".join(text for text in steps if not text.endswith(" ")) or "none"
    return wrong_input("E405", f"`{name}` has no checkpoint of step {step}", help=f"steps in {CHECKPOINTS}/: {known}")


def _unfinished(folders: Sequence[StageFolder]) -> str:
    begun = [folder for folder in folders if folder.last_checkpoint is not None]
    if not begun:
        return "`nanochat runs` lists what there is"
    return f"name a checkpoint of one that is not finished: {begun[-1].path.name}@{begun[-1].last_checkpoint}"
