"""The way of a checkpoint to the disk, such that it is whole or absent wherever the way ends.

    .writing_000400/   each rank writes and syncs its files, then files-RANK.json with their sizes and digests
    commit (rank 0)    MANIFEST.json of all ranks' files, synced, and the folder; renamed to step_000400; the parent
                       synced; only then older checkpoints leave: renamed first, so that none is ever half one

In: one Snapshot a rank. Out: a folder as nanochat/training/manifest.py knows it. Not here: when, and on which thread
(saves.py). Nothing is exchanged between ranks but files, so all of this may run beside the training.
"""

import contextlib
import json
import shutil
from pathlib import Path

from nanochat.durable import FILE_MODE, delete, make_folder, sha256, sync, write_synced
from nanochat.errors import stage_failure
from nanochat.quantity import size
from nanochat.runtime import Runtime
from nanochat.training.manifest import Entry, checkpoints, write_manifest
from nanochat.training.snapshot import Snapshot
from nanochat.training.tensor_file import write_tensors

WRITING, PRUNED = ".writing_", ".pruned_"
"""How the name of a folder begins that is not yet, or no longer, a checkpoint."""


class CheckpointWriter:
    """One checkpoint in the making."""

    def __init__(self, folder: Path, step: int, runtime: Runtime, *, kept: int) -> None:
        """folder: that of the stage's checkpoints. kept: how many of the newest stay."""
        self.runtime, self.step, self.kept = runtime, step, kept
        self.final = folder / f"step_{step:06d}"
        self.folder = folder / f"{WRITING}{step:06d}"
        self._files: dict[str, Entry] = {}

    def require_room(self, n_bytes: int) -> None:
        """StageError E401 where the disk has less room than all ranks' files take. Before anything is written."""
        make_folder(self.final.parent)
        free = shutil.disk_usage(self.final.parent).free
        if free < n_bytes:
            raise stage_failure(
                "E401",
                f"the disk is full: the checkpoint of step {self.step} takes {size(n_bytes)}, "
                f"and {self.final.parent} has room for {size(free)}",
                help="free space there; then the same command goes on from the last checkpoint, which is intact",
            )

    def write(self, snapshot: Snapshot) -> None:
        """Write and sync this rank's files. OSError with the path; what was written is gone then."""
        try:
            make_folder(self.folder)
            for name, tensors in snapshot.tensors.items():
                path = self.folder / f"{name}.safetensors"
                self._note(path.name, *write_tensors(tensors, path, snapshot.metadata.get(name)))
            for name, text in snapshot.texts.items():
                self._note(f"{name}.json", *write_synced(self.folder / f"{name}.json", [text.encode()]))
            if snapshot.tokenizer is not None:
                snapshot.tokenizer.save(self.folder)
                path = self.folder / "tokenizer.json"
                path.chmod(FILE_MODE)
                self._note(path.name, path.stat().st_size, sha256(path))
            write_synced(self._list_of(self.runtime.rank), [json.dumps(self._files).encode()])
        except OSError:
            self._take_back(snapshot)  # on a full disk it would be in the way of what comes next
            raise

    def commit(self) -> Path:
        """Make the files of all ranks, which are all written, a checkpoint. The main rank alone calls it."""
        files: dict[str, Entry] = {}
        for rank in range(self.runtime.world_size):
            files |= self._listed(rank)
            self._list_of(rank).unlink()
        write_manifest(self.folder, files, world_size=self.runtime.world_size)
        if self.final.exists():
            remove(self.final)
        self.folder.rename(self.final)
        sync(self.final.parent)
        for old in checkpoints(self.final.parent)[: -self.kept]:
            remove(old)
        return self.final

    def _take_back(self, snapshot: Snapshot) -> None:
        """Delete this rank's files; those of others stay, or they would fail as well, for another reason."""
        names = [*(f"{name}.safetensors" for name in snapshot.tensors), *(f"{name}.json" for name in snapshot.texts)]
        if snapshot.tokenizer is not None:
            names.append("tokenizer.json")
        for path in (*(self.folder / name for name in names), self._list_of(self.runtime.rank)):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _note(self, name: str, n_bytes: int, digest: str) -> None:
        self._files[name] = {"bytes": n_bytes, "sha256": digest}

    def _list_of(self, rank: int) -> Path:
        return self.folder / f"files-{rank}.json"

    def _listed(self, rank: int) -> dict[str, Entry]:
        path = self._list_of(rank)
        if not path.exists():
            raise stage_failure(
                "E401",
                f"the files that rank {rank} wrote for the checkpoint of step {self.step} are not in {self.folder}",
                help="all nodes must see the store under one path: set NANOCHAT_HOME to a folder that they share",
            )
        found: dict[str, Entry] = json.loads(path.read_text())
        return found


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint; at no moment is a part of it left under its name."""
    gone = checkpoint.with_name(f"{PRUNED}{checkpoint.name}")
    delete(gone)
    checkpoint.rename(gone)
    sync(checkpoint.parent)
    delete(gone)


def clear_remains(folder: Path) -> None:
    """Delete what a killed process left half written, or half deleted."""
    for start in (WRITING, PRUNED):
        for remains in folder.glob(f"{start}*"):
            delete(remains)
