"""What every step was computed from, written down: a digest of each rank's rows, for who must show that two runs agree.

In: a loader. Out: the same batches, and a line {"step", "digest"} for each in a file of its own. A step that is done
again after an interruption has a line for each time.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from nanochat.data.loader import Batch
from nanochat.training.loop import Loader


@attrs.frozen(kw_only=True)
class DigestedLoader:
    """A loader whose batches are written down as they are taken."""

    inner: Loader
    file: Path
    step: Callable[[], int]
    """The step that the next batch is for."""

    def ready(self, seconds: float) -> bool:
        return self.inner.ready(seconds)

    def next_batch(self) -> Batch:
        batch, step = self.inner.next_batch(), self.step()
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "digest": digest(batch)}) + "\n")
        return batch

    def position(self) -> Mapping[str, float]:
        return self.inner.position()


def digest(batch: Batch) -> str:
    """The sha256 over shapes and values of a batch's tensors, in hex."""
    found = hashlib.sha256()
    for tensor in batch.tensors().values():
        found.update(f"{tuple(tensor.shape)} {tensor.dtype} ".encode())
        found.update(tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
