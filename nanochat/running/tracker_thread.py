"""One tracker in a thread of its own: what it does wrong, or does not do at all, never holds a stage up.

In: how the tracker is made, and calls. Out: the same calls, in order, in the thread. A fault is told once. A tracker
that does not keep up loses figures once so many wait, and one that does not end is left behind: `any_left` says so to
the process that ends. Not here: what a tracker is (`nanochat.running.tracker`).
"""

import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

WAITING = 10_000
"""Calls that may wait for a tracker: lines of metrics, a few hundred bytes each."""


class TrackerThread(threading.Thread):
    """A tracker at work. complain: told what is wrong, from this thread or the caller's, once a fault."""

    def __init__(self, make: Callable[[], Any], complain: Callable[[str, BaseException | None], None]) -> None:
        super().__init__(daemon=True, name="tracker")
        self._make, self._complain = make, complain
        self._calls: queue.SimpleQueue[tuple[str, tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._late = self._faulty = False
        self.start()

    def tell(self, method: str, *arguments: Any) -> None:
        """Have it called soon. Never waits."""
        if self._calls.qsize() < WAITING:
            self._calls.put((method, arguments))
        elif not self._late:
            self._late = True
            self._complain(f"it does not keep up: {WAITING:,} calls wait, and further figures are left out", None)

    def end(self, record: Mapping[str, Any]) -> None:
        """Have it finish once it has seen to what waits. Never waits."""
        self._calls.put(("finish", (record,)))
        self._calls.put(None)

    def wait(self, deadline: float) -> None:
        """Until it has ended, or a time of `time.monotonic()`, no longer."""
        self.join(max(0.0, deadline - time.monotonic()))
        if self.is_alive():
            self._complain("it did not end in time, and is left behind", None)

    def run(self) -> None:
        """What the thread does."""
        tracker = self._tried(self._make)
        while (call := self._calls.get()) is not None:
            method, arguments = call
            if tracker is None:
                continue
            done = self._tried(lambda: (getattr(tracker, method)(*arguments), True))  # noqa: B023 (called at once)
            if method == "start" and done is None:
                tracker = None  # what never started is told nothing

    def _tried(self, call: Callable[[], Any]) -> Any:
        """None where it failed."""
        try:
            return call()
        except BaseException as fault:  # SystemExit too: a library's exit would end this thread without a word
            if not self._faulty:
                self._faulty = True
                self._complain(f"{type(fault).__name__}: {fault} (said once)", fault)
            return None


def any_left() -> bool:
    """Whether a tracker is still at work: then its library's own end might wait for it without bound."""
    return any(isinstance(thread, TrackerThread) and thread.is_alive() for thread in threading.enumerate())
