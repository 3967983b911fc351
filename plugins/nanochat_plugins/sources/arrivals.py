"""Files that arrive while others are read: in order, a few at a time, and the one that is wanted now before all others.

In: a checkout and the files in the order in which they are read. Out: `wait(file)` gives a file's path once it is here,
says now and then how far it is, and raises the StageError that its download ended with. Of all processes of a machine
that read one data set, one downloads ahead (it holds a lock, which a crash frees); one that waits for a file which
nobody is fetching fetches it itself: in a thread, so that the limit of a wait holds whatever the network does. When the
reader is dropped, its downloads end.
"""

import logging
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path

from filelock import FileLock

from nanochat.data.background import in_background
from nanochat.errors import NanochatError, Stopped, stage_failure
from nanochat.quantity import size
from nanochat_plugins.sources.hub_checkout import Checkout
from nanochat_plugins.sources.hub_file import OnBytes
from nanochat_plugins.sources.hub_manifest import HubFile

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
"""Between two looks at a file that is waited for."""
SAY_SECONDS = 15.0
"""Between two lines about a file that is waited for."""
LONGEST_WAIT_SECONDS = 540.0
"""For a file in the middle of training, where other processes may wait in a collective: NCCL gives up after 600."""


class Arrivals:
    """The files of one reader."""

    def __init__(
        self, checkout: Checkout, *, train: Sequence[HubFile], validation: Sequence[HubFile], workers: int
    ) -> None:
        """`workers`: files that are downloaded ahead at a time."""
        self._checkout, self._workers = checkout, workers
        self._train, self._validation = list(train), list(validation)
        self._ahead: _Ahead | None = None
        self._begun = False

    def wait(self, file: HubFile) -> Path:
        """The file's place, once it is here. The first wait takes as long as it takes, later ones have a limit."""
        self._download_ahead(file)
        if not self._checkout.is_here(file):
            patience = _Patience(self._checkout, file, LONGEST_WAIT_SECONDS if self._begun else None)
            stop = threading.Event()
            fetched = _fetch(self._checkout, file, stop)
            try:
                while not futures.wait([fetched], LOOK_SECONDS).done:
                    patience.look()
            finally:
                stop.set()
            fetched.result()
        self._begun = True
        return self._checkout.place(file)

    def _download_ahead(self, wanted: HubFile) -> None:
        """Fetch the validation files and, for a training file, those behind it, unless that goes on already."""
        if self._ahead is not None and self._ahead.is_alive():
            return
        rest = self._train[self._train.index(wanted) + 1 :] if wanted in self._train else []
        missing = [file for file in (*self._validation, *rest) if not self._checkout.is_here(file)]
        if missing:
            self._ahead = _Ahead(self._checkout, missing, self._workers)
            weakref.finalize(self, self._ahead.stop.set)
            self._ahead.start()


def _fetch(checkout: Checkout, file: HubFile, stop: threading.Event) -> futures.Future[None]:
    """Fetch a file in a thread of its own, until `stop` is set; what it ended with."""
    return in_background(lambda: checkout.fetch(file, _until(stop)))


def _until(stop: threading.Event) -> OnBytes:
    """What ends a transfer once `stop` is set: whoever wanted the file is gone."""

    def on_bytes(_: int) -> None:
        if stop.is_set():
            raise Stopped

    return on_bytes


class _Ahead(threading.Thread):
    """Downloads files in order, several at a time, until it has tried each."""

    def __init__(self, checkout: Checkout, missing: Sequence[HubFile], workers: int) -> None:
        super().__init__(daemon=True)
        self.stop = threading.Event()
        self._checkout = checkout
        self._queue, self._workers = iter(missing), workers
        self._taking = threading.Lock()

    def run(self) -> None:
        folder = self._checkout.manifest.folder / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "ahead.lock").acquire(poll_interval=1.0):
            workers = [threading.Thread(target=self._work, daemon=True) for _ in range(self._workers)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()

    def _work(self) -> None:
        """Whoever needs a file that failed tries it again and has the error; here it is only told."""
        while (file := self._next()) is not None:
            try:
                if not self._checkout.is_here(file) and self._checkout.try_fetch(file, _until(self.stop)):
                    log.info("%s is here, %s", file.name, size(file.size))
            except Stopped:
                return
            except (NanochatError, OSError) as fault:
                log.info("ahead of its use: %s", str(fault).splitlines()[0])

    def _next(self) -> HubFile | None:
        with self._taking:
            return next(self._queue, None)


class _Patience:
    """How long a file is waited for, and what is said meanwhile."""

    def __init__(self, checkout: Checkout, file: HubFile, limit: float | None) -> None:
        self.file = file
        self._checkout, self._limit = checkout, limit
        self._began = self._said = time.monotonic()
        log.info("waiting for %s (%s) of %s", file.name, size(file.size), checkout.manifest.repo)

    def look(self) -> None:
        """Say now and then how far the file is. StageError E301 past the limit."""
        now = time.monotonic()
        here = f"{size(self._checkout.bytes_here(self.file))} of {size(self.file.size)}"
        if self._limit is not None and now - self._began > self._limit:
            raise stage_failure(
                "E301",
                f"training has run ahead of its data: {self.file.name} did not arrive within "
                f"{self._limit:g} s ({here} are here), and other processes wait",
                help="fetch the data first: nanochat data get RECIPE; then the same command goes on",
            )
        if now - self._said > SAY_SECONDS:
            self._said = now
            log.warning("still waiting for %s: %s after %d s", self.file.name, here, now - self._began)
