"""The processes of an attempt that is over: found, killed, and waited for until they are gone.

In: a stage's folder, processes that are known. Out: those that killing did not end. A worker, and the agent that
starts workers, have the stage's folder in their command line: so one is found that has written no pulse yet, or whose
parent was killed before it could tie its life to it. Whoever asks holds the folder's lease, so that what works there
belongs to him. Not here: processes of other machines, which the network's timeouts end.
"""

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

WORKER = "nanochat.running.worker"
GONE_SECONDS = 30.0
"""How long killed processes may take to be gone: those in the middle of a write, on a slow disk, say."""
_LOOK_SECONDS = 0.05


def workers_in(folder: Path) -> list[psutil.Process]:
    """This machine's processes that work in a stage's folder, or start what does."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # gone meanwhile, or another user's on macOS
            words = process.cmdline()
            if WORKER in words and (str(folder) in words[words.index(WORKER) :]):
                found.append(process)
    return found


def end(known: Iterable[psutil.Process], folder: Path | None, *, seconds: float = GONE_SECONDS) -> list[psutil.Process]:
    """Kill them, what descends from them, and what works in the folder. Those that live on after so many seconds.

    It is looked again until there are none: a process that is about to start another may do so before it dies.
    """
    found, until = set(known), time.monotonic() + seconds
    while True:
        found |= set(workers_in(folder)) if folder is not None else set()
        for process in tuple(found):
            with contextlib.suppress(psutil.Error):
                found |= set(process.children(recursive=True))
        left = [process for process in found if _is_at_work(process)]
        if not left or time.monotonic() > until:
            return left
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(_LOOK_SECONDS)


def _is_at_work(process: psutil.Process) -> bool:
    """Whether it can still write. A zombie cannot, unless a thread of it is left, in the middle of a write."""
    try:
        if not process.is_running():
            return False
        return bool(process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1)
    except psutil.NoSuchProcess:
        return False
