"""The store: one folder for each stage result, found by the stage's key.

    store/base-91be77d0/   config.json · metrics.jsonl · checkpoints/ · logs/ · lease · record.json

In: keys. Out: folders and what state they are in. record.json is written last and durably: its presence means done.
Not here: what a stage writes into its folder, and when it is run.
"""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from nanochat.durable import delete, sync
from nanochat.errors import wrong_input
from nanochat.home import store_dir
from nanochat.recipe.artifacts import KEY_CHARACTERS
from nanochat.running.json_file import read_json, write_json

RECORD = "record.json"
CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
LOG = "logs/worker.log"
METRICS = "metrics.jsonl"
OLD = ".old"
"""Where folders lie that are out of the way: set aside, or being deleted."""
_NAME = re.compile(rf"[^.].*-[0-9a-f]{{{KEY_CHARACTERS},64}}")
_KEY_LENGTHS = (KEY_CHARACTERS, 16, 64)
"""How much of a key stands in a folder's name; more only where two keys begin alike."""
_STEP_DIGITS = 18

State = Literal["done", "partial", "absent"]


@attrs.frozen(kw_only=True)
class StageFolder:
    """A stage's folder in the store. It may not exist yet."""

    path: Path
    key: str

    @property
    def record(self) -> dict[str, Any] | None:
        """What the finished stage left, or None: not finished, torn, of another key, or its artifact is gone."""
        found = read_json(self.path / RECORD)
        if found is None or found.get("key") != self.key:
            return None
        return found if (self.path / str(found.get("artifact", "."))).exists() else None

    @property
    def state(self) -> State:
        """done: it has its record. partial: it has a checkpoint to go on from. absent: everything else."""
        if self.record is not None:
            return "done"
        return "partial" if self.last_checkpoint is not None else "absent"

    @property
    def last_checkpoint(self) -> int | None:
        """The step of the newest checkpoint, or None."""
        return max(checkpoint_steps(self.path), default=None)

    @property
    def artifact(self) -> Path:
        """Where the finished stage's artifact lies."""
        record = self.record
        if record is None:
            raise wrong_input(
                "E405",
                f"the result in {self.path} is gone, or not finished",
                help="the same command makes it again",
            )
        return self.path / str(record.get("artifact", "."))

    def open(self, config: Mapping[str, Any]) -> None:
        """Make the folder ready for work: its own description, an empty log folder."""
        (self.path / LOG).parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path / CONFIG, {"key": self.key, **config})

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Declare the stage done. The last thing that is written."""
        write_json(self.path / RECORD, {"key": self.key, **record})


class Store:
    """All stage folders below one root."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or store_dir()

    def folder(self, stage: str, key: str) -> StageFolder:
        """The folder of a key: one that exists, under whatever stage's name, or the one to make for this stage."""
        for length in _KEY_LENGTHS:
            found = sorted(self.root.glob(f"*-{key[:length]}"))
            if not found:
                return StageFolder(path=self.root / f"{stage}-{key[:length]}", key=key)
            for path in found:
                if _key_of(path) in (key, None):
                    return StageFolder(path=path, key=key)
        raise AssertionError(f"no folder name is left for {key}")

    def located(self, stage: str, key: str, noted: Path) -> StageFolder:
        """The folder of a key that was noted somewhere: in this store, under the name that it had; else where noted."""
        here = self.root / noted.name
        folder = StageFolder(path=here, key=key) if _key_of(here) == key else self.folder(stage, key)
        return folder if folder.path.exists() or not noted.exists() else StageFolder(path=noted, key=key)

    def by_key(self, key: str) -> StageFolder:
        """The finished folder of a `store:KEY` reference, by the key or its beginning. InputError E405."""
        matching = [f for f in self if f.key.startswith(key) and f.record is not None]
        if len(key) >= KEY_CHARACTERS and len(matching) == 1:
            return matching[0]
        raise wrong_input(
            "E405",
            f"the store has {'no' if not matching else 'more than one'} finished result with the key `{key}`",
            help=f"`nanochat runs` lists what there is; give at least {KEY_CHARACTERS} characters of the key",
        )

    def __iter__(self) -> Iterator[StageFolder]:
        """Every folder that has a description, newest first."""
        for path in newest_first(p for p in self.root.glob(f"*-*/{CONFIG}") if not p.parent.name.startswith(".")):
            folder = folder_at(path.parent)
            if folder is not None:
                yield folder

    def set_aside(self, folder: StageFolder) -> None:
        """Move a folder out of the way of a fresh run. It is kept until the fresh result is there."""
        if folder.path.exists():
            old = self.root / OLD
            old.mkdir(exist_ok=True)
            folder.path.rename(old / f"{folder.path.name}.{time.time_ns()}")
            sync(self.root)

    def set_back(self, folder: StageFolder, step: int) -> None:
        """Move the record and the checkpoints after a step out of the way, kept as by `set_aside`, with the metrics.

        The record goes first, then the newest checkpoint: wherever this ends, the folder is a stage that was stopped.
        Killed in the middle it is called again for the same step, and moves the rest.
        """
        later = [s for s in checkpoint_steps(folder.path) if s > step][::-1]
        moved = [checkpoint_folder(Path(), s) for s in later]
        if (folder.path / RECORD).exists():
            moved.insert(0, Path(RECORD))
        aside = self.root / OLD / f"{folder.path.name}.{time.time_ns()}"
        (aside / CHECKPOINTS).mkdir(parents=True)
        if (folder.path / METRICS).exists():
            shutil.copy2(folder.path / METRICS, aside / METRICS)
        for name in moved:
            (folder.path / name).rename(aside / name)
            sync((folder.path / name).parent)

    def drop_set_aside(self, folder: StageFolder) -> None:
        """Delete what was set aside for this folder."""
        for path in (self.root / OLD).glob(f"{folder.path.name}.*"):
            with contextlib.suppress(OSError):
                delete(path)


def is_result(path: Path) -> bool:
    """Whether a folder has the name of a result."""
    return _NAME.fullmatch(path.name) is not None and path.is_dir()


def bytes_in(folder: Path) -> int:
    """What a folder's files take, all together. Somebody may be at work in it: what goes meanwhile counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += Path(place, name).lstat().st_size
    return total


def discard(folder: Path, marker: str) -> int:
    """Delete a folder so that no moment of it looks whole: the file that says so goes first, then the folder's name,
    then the rest. Returns the bytes that were freed.
    """
    freed = bytes_in(folder)
    (folder / marker).unlink(missing_ok=True)
    sync(folder)
    (folder.parent / OLD).mkdir(exist_ok=True)
    gone = folder.rename(folder.parent / OLD / f"{folder.name}.{time.time_ns()}")
    sync(folder.parent)
    delete(gone)
    return freed


def newest_first(files: Iterable[Path]) -> list[Path]:
    """Files by when they were written. What is moved or removed at this moment is left out."""
    written = {}
    for file in files:
        with contextlib.suppress(OSError):
            written[file] = file.stat().st_mtime
    return sorted(written, key=lambda file: written[file], reverse=True)


def folder_at(path: Path) -> StageFolder | None:
    """The stage's folder at a path, in whatever store; None where it is none."""
    key = _key_of(path)
    return StageFolder(path=path, key=key) if key is not None else None


def checkpoint_steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in a stage's folder, ascending. A checkpoint in the making has another name."""
    names = [p.name for p in (folder / CHECKPOINTS).glob("step_*") if p.is_dir()]
    return sorted(int(n.removeprefix("step_")) for n in names if n.removeprefix("step_").isdecimal())


def checkpoint_folders(folder: Path) -> list[Path]:
    """The checkpoints in a stage's folder, ascending, whole or not; then those that were set aside as broken."""
    whole = [checkpoint_folder(folder, step) for step in checkpoint_steps(folder)]
    return whole + sorted((folder / CHECKPOINTS).glob("broken_*"))


def is_step(text: str) -> bool:
    """Whether a person's word is a step: Python reads no numbers of thousands of digits."""
    return text.isascii() and text.isdigit() and len(text) <= _STEP_DIGITS


def checkpoint_folder(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies in a stage's folder."""
    return folder / CHECKPOINTS / f"step_{step:06d}"


def _key_of(path: Path) -> str | None:
    found = (read_json(path / CONFIG) or {}).get("key")
    return found if isinstance(found, str) else None
