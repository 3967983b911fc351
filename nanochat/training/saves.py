"""The saves of a run: one at a time, written beside the training, each a checkpoint only when all ranks are through.

In: a writer and a snapshot at a step boundary. Out: a checkpoint, some steps later. With one process the thread that
writes also commits. With several, no thread exchanges anything with another rank: each tells its own main thread, the
loop's one sum a step (`agree`) tells all of them that every rank's files are written, and then rank 0's thread commits.
Killed before that, all of it is a folder that no one takes for a checkpoint.

No signal handler runs on these threads, and Python begins interrupted writes again by itself.
"""

from collections.abc import Callable
from concurrent.futures import Future

from nanochat.data.background import in_background
from nanochat.runtime import Runtime
from nanochat.training.checkpoint_writer import CheckpointWriter
from nanochat.training.snapshot import Snapshot


class Saves:
    """At most one save in flight. All ranks call `begin`, `commit` and `finish` at the same points of their loops."""

    def __init__(self, runtime: Runtime, *, background: bool) -> None:
        """background: False writes before `begin` returns."""
        self._runtime, self._background = runtime, background
        self._work: Future[None] | None = None
        """What this rank's thread is at."""
        self._uncommitted: CheckpointWriter | None = None
        """The save of which not all ranks are known to have written their files: on all ranks, or on none."""

    @property
    def writing(self) -> bool:
        """Whether this rank's thread is still at work. Raises, once, what went wrong on it."""
        if self._work is None or not self._work.done():
            return self._work is not None
        work, self._work = self._work, None
        work.result()
        return False

    def begin(self, writer: CheckpointWriter, snapshot: Snapshot) -> None:
        """Write a snapshot, which stays as it is until `finish`. The save before it is finished."""
        assert self._work is None
        assert self._uncommitted is None
        alone = self._runtime.world_size == 1

        def write() -> None:
            writer.write(snapshot)
            if alone:
                writer.commit()

        self._uncommitted = None if alone else writer
        self._start(write)
        if not self._background:
            self.finish()

    def commit(self) -> None:
        """Every rank has written its files: make them a checkpoint, on the main rank's thread."""
        writer, self._uncommitted = self._uncommitted, None
        if writer is not None and self._runtime.is_main:
            self._start(writer.commit)

    def finish(self) -> None:
        """Wait until the save in flight is a checkpoint. Raises what went wrong with it."""
        self._wait()
        if self._uncommitted is not None:
            self._runtime.barrier()
            self.commit()
            self._wait()

    def abandon(self) -> None:
        """The training ends by an error: alone, wait for the save, which is good all the same. Raises nothing."""
        if self._work is not None and self._runtime.world_size == 1:
            self._work.exception()

    def _start(self, work: Callable[[], object]) -> None:
        self._wait()
        if self._background:
            self._work = in_background(work)
        else:
            work()

    def _wait(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work.result()
