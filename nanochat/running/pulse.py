"""The pulse of a stage's processes: each rank's tells that it is alive, the runner counts from the last beat.

In: a stage's folder of `handover`. Out: `pulse-RANK.json`, which says which process a rank is, and whose time of change
moves on while it runs. A thread of its own beats, so that a compilation or a long evaluation is no standstill; a
process that is stopped, or gone with its machine, is one. A rank whose main thread hangs is not found here but by the
others, which wait for it no longer than the process group's timeout.
"""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import psutil

from nanochat.running.json_file import read_json, write_json

BEAT_SECONDS = 0.5
_ASLEEP_SECONDS = 5.0
"""A runner that did not look for so long was stopped itself, as the machine perhaps was: it counts anew."""


@contextmanager
def beating(folder: Path, rank: int) -> Iterator[None]:
    """Beat while the block runs. An end in order leaves nothing behind: who has ended does not stand still."""
    path, ended = _path(folder, rank), threading.Event()
    own = psutil.Process()
    write_json(path, {"rank": rank, "pid": own.pid, "created": own.create_time(), "host": socket.gethostname()})

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # a full disk ends the stage elsewhere; a network's may come back
                os.utime(path)

    thread = threading.Thread(target=beat, daemon=True, name="pulse")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        path.unlink(missing_ok=True)


@attrs.frozen
class Still:
    """A rank that does not move."""

    rank: int
    pid: int
    host: str
    seconds: float


@attrs.define
class Pulses:
    """The pulses of an attempt's ranks, as the runner sees them."""

    folder: Path
    """Where `handover` keeps its files."""
    clock: Callable[[], float] = time.monotonic
    _seen: dict[Path, tuple[int, float]] = attrs.field(factory=dict)
    """File → its time of change, and when that was first seen."""
    _looked: float | None = None

    def still(self, seconds: float) -> Still | None:
        """The rank that has stood still longest, if for more than so many seconds. To be asked often."""
        now = self.clock()
        if self._looked is not None and now - self._looked > _ASLEEP_SECONDS:
            self._seen.clear()
        self._looked, before, self._seen = now, self._seen, {}
        for path in self.folder.glob("pulse-*.json"):
            with contextlib.suppress(OSError):
                changed = path.stat().st_mtime_ns
                known = before.get(path)
                self._seen[path] = known if known is not None and known[0] == changed else (changed, now)
        for path, (_, since) in sorted(self._seen.items(), key=lambda item: item[1][1]):
            if now - since > seconds and (told := read_json(path)) is not None:
                return Still(rank=told["rank"], pid=told["pid"], host=told["host"], seconds=now - since)
        return None

    def ranks(self) -> dict[int, psutil.Process]:
        """The ranks' processes that live on this machine."""
        found = {}
        for told in map(read_json, self.folder.glob("pulse-*.json")):
            if told is not None and told["host"] == socket.gethostname():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process = psutil.Process(told["pid"])
                    if process.create_time() == told["created"]:  # else another has its number by now
                        found[told["rank"]] = process
        return found

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal to one rank of this machine; False where there is none.

        It tells the others. Sent to each, it could come to two of them in two steps, and be two requests.
        """
        for process in self.ranks().values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
                return True
        return False


def _path(folder: Path, rank: int) -> Path:
    return folder / f"pulse-{rank}.json"
