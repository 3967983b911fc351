"""What a stage that trains leaves behind, as its files tell, and what differs between two that should be equal.

In: a home and a stage's name; the stage may be at work, or not there yet. Out: losses, batches, the last checkpoint's
state, each in a form that is equal only where every bit is. The batches are there where `batch_digests` is set.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import psutil

from nanochat.running.handover import Handover
from nanochat.running.json_file import canonical, read_json, read_lines
from nanochat.running.pulse import Pulses
from nanochat.training.manifest import MANIFEST, checkpoints


@attrs.frozen
class Trace:
    """The stage's folder in a home that has one of its name at most."""

    home: Path
    stage: str

    @property
    def folder(self) -> Path | None:
        """None: it has not begun."""
        return next(self.home.glob(f"store/{self.stage}-*"), None)

    def ranks(self) -> dict[int, psutil.Process]:
        """The processes of the attempt under way that are alive."""
        return Pulses(Handover(self.folder).folder).ranks() if self.folder else {}

    def steps_begun(self) -> int:
        """How many steps rank 0 began in all attempts, repeated ones counted again."""
        return sum(path.read_bytes().count(b"\n") for path in self._glob("batches-0.jsonl"))

    def writing(self) -> bool:
        """Whether there is a checkpoint that is half written."""
        return any(True for _ in self._glob("checkpoints/.writing_*"))

    def losses(self) -> dict[int, str]:
        """Step → float.hex of its loss."""
        lines = [line for path in self._glob("metrics.jsonl") for line in read_lines(path)]
        return {line["step"]: float(line["loss"]).hex() for line in lines if line.get("loss") is not None}

    def batches(self) -> list[tuple[int, int, str]]:
        """(rank, step, digest) of every batch of every attempt."""
        ranks = {path: int(path.stem.removeprefix("batches-")) for path in self._glob("batches-*.jsonl")}
        return [(rank, line["step"], line["digest"]) for path, rank in ranks.items() for line in read_lines(path)]

    def state(self) -> dict[str, str]:
        """File → sha256, of the newest checkpoint: model, optimizers, random numbers, loaders."""
        found = checkpoints(self.folder / "checkpoints") if self.folder else []
        described = (read_json(found[-1] / MANIFEST) if found else None) or {"files": {}}
        return {name: entry["sha256"] for name, entry in described["files"].items()}

    def _glob(self, pattern: str) -> Iterator[Path]:
        return self.folder.glob(pattern) if self.folder else iter(())


@attrs.frozen(kw_only=True)
class Comparison:
    """Two runs side by side. What differs is named by steps, ranks and files; nothing does where all of it is empty."""

    losses_compared: int
    batches_compared: int
    """Of the second run, those of repeated steps too."""
    files_compared: int
    state: str
    """A digest of the first run's last checkpoint."""
    losses: Mapping[int, tuple[str, str]]
    """Step → float.hex in the first run and in the second; empty where one has no such step."""
    batches: Sequence[tuple[int, int]]
    """(rank, step)"""
    files: Sequence[str]
    """Of the last checkpoint."""

    @property
    def differences(self) -> int:
        """How many there are."""
        return len(self.losses) + len(self.batches) + len(self.files)

    @property
    def equal(self) -> bool:
        """Whether there is something to compare, and all of it is equal."""
        return self.differences == 0 and min(self.losses_compared, self.batches_compared, self.files_compared) > 0


def compare(first: Trace, second: Trace) -> Comparison:
    """Losses step by step, every batch that the second run took, and the files of the last checkpoints."""
    losses, others = first.losses(), second.losses()
    batches = {(rank, step): digest for rank, step, digest in first.batches()}
    taken = second.batches()
    wrong = {(rank, step) for rank, step, digest in taken if batches.get((rank, step)) != digest}
    missing = batches.keys() - {(rank, step) for rank, step, _ in taken}
    files, other_files = first.state(), second.state()
    return Comparison(
        losses_compared=len(losses),
        batches_compared=len(taken),
        files_compared=len(files),
        state=hashlib.sha256(canonical(files).encode()).hexdigest(),
        losses={
            step: (losses.get(step, ""), others.get(step, ""))
            for step in sorted(losses.keys() | others.keys())
            if losses.get(step) != others.get(step)
        },
        batches=sorted(wrong | missing),
        files=sorted(name for name in files.keys() | other_files.keys() if files.get(name) != other_files.get(name)),
    )
