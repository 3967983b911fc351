"""A loader whose batches are made ahead, on a thread: reading, tokenising and packing go on while the model computes.

In: a loader. Out: the same batches in the same order, and its place as of the last batch that was handed out, however
far the thread has gone on. On CUDA batches lie in pinned memory, so that their copy to the device waits for nothing;
torch's host allocator gives such memory out again only when an event says that the copies from it are done. Not here:
making batches.
"""

from queue import Empty, Full, Queue
from threading import Event, Thread

import attrs
import torch

from nanochat.data.loader import Batch, Loader, LoaderState, Snapshot

AHEAD = 2
"""Batches made ahead: one to compute on next, and one in the making while a checkpoint or a slow file delays."""
_ASK_SECONDS = 0.05
_END_SECONDS = 10.0
"""How long an ending waits for the thread, which ends when its batch is made: that may wait for a download."""


@attrs.frozen(eq=False)
class _Made:
    """A batch, and the loader's place behind it."""

    batch: Batch
    place: Snapshot


class Prefetch:
    """Batches of a loader, made ahead of their use. What goes wrong on the thread is raised where the batch is due."""

    def __init__(self, loader: Loader, *, ahead: int = AHEAD, pin_for: torch.device | None = None) -> None:
        """`pin_for`: the CUDA device that the batches are copied to; None: they are used where they are."""
        self._loader, self._ahead, self._pin_for = loader, ahead, pin_for
        self._place = loader.snapshot()
        self._thread: _Worker | None = None
        self._ending: _Worker | None = None  # it may still be at work on the loader

    @property
    def progress(self) -> float:
        """The loader's progress as of the last batch that was handed out."""
        return self._place.progress

    def counts(self) -> dict[str, int]:
        """The loader's counts as of the last batch that was handed out."""
        return dict(self._place.counts)

    def position(self) -> dict[str, int]:
        """How far the loader had read, as of the last batch that was handed out."""
        return dict(self._place.position)

    def ready(self, seconds: float) -> bool:
        """Whether the next batch, or what went wrong in making it, is there; waits for it at most so long."""
        return self._started().is_ready(seconds)

    def next_batch(self) -> Batch:
        """The next (B, T) inputs and targets."""
        made = self._started().take()
        self._place = made.place
        return made.batch

    def state(self) -> LoaderState:
        """Everything that the batches after the last one handed out depend on."""
        return self._place.state()

    def load_state(self, state: LoaderState) -> None:
        """Go on where `state` was made."""
        self.close()
        self._wait_for_the_end()
        self._loader.load_state(state)
        self._place = self._loader.snapshot()

    def close(self) -> None:
        """End the thread. What it made ahead is thrown away, and made again if another batch is asked for."""
        if self._thread is not None:
            self._thread.end()
            self._thread, self._ending = None, self._thread

    def _started(self) -> "_Worker":
        if self._thread is None:
            if self._ending is not None:
                self._wait_for_the_end()
                self._loader.load_state(self.state())
            self._thread = _Worker(self._loader, self._ahead, self._pin_for)
        return self._thread

    def _wait_for_the_end(self) -> None:
        """However long it takes: a loader has one user at a time."""
        if self._ending is not None:
            self._ending.join()
            self._ending = None


class _Worker(Thread):
    """Makes batches until it is told to end, or one cannot be made."""

    def __init__(self, loader: Loader, ahead: int, pin_for: torch.device | None) -> None:
        super().__init__(name="batches", daemon=True)
        self._loader, self._pin_for = loader, pin_for
        self._made: Queue[_Made | BaseException] = Queue(ahead)
        self._ended = Event()
        self._next_made: _Made | None = None  # taken out of the queue, and not yet asked for
        self._failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            if self._pin_for is not None:
                torch.cuda.set_device(self._pin_for)  # a thread's own; pinned memory belongs to a device's context
            while not self._ended.is_set():
                self._put(self._make())
        except BaseException as failure:  # whatever it is, it belongs to whoever waits for the batch
            self._put(failure)

    def is_ready(self, seconds: float | None) -> bool:
        if self._next_made is None and self._failure is None:
            try:
                made = self._made.get(timeout=seconds)
            except Empty:
                return False
            if isinstance(made, BaseException):
                self._failure = made
            else:
                self._next_made = made
        return True

    def take(self) -> _Made:
        self.is_ready(None)
        if self._next_made is None:
            assert self._failure is not None
            raise self._failure
        made, self._next_made = self._next_made, None
        return made

    def end(self) -> None:
        self._ended.set()
        self.join(_END_SECONDS)

    def _make(self) -> _Made:
        batch = self._loader.next_batch()
        place = self._loader.snapshot()
        if self._pin_for is not None:
            batch = batch.pinned()
        return _Made(batch, place)

    def _put(self, made: _Made | BaseException) -> None:
        while not self._ended.is_set():
            try:
                self._made.put(made, timeout=_ASK_SECONDS)
            except Full:
                continue
            return
