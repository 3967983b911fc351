"""Being asked to stop, or to save: signals set a flag, whoever loops looks at it.

In: SIGTERM, SIGINT, SIGHUP; SIGUSR1, which asks for a checkpoint now. Out: a count and a flag. Nothing happens inside a
signal handler: a step is always finished and saved.
Beside it, the tie that takes a process down with its parent.
"""

import ctypes
import os
import signal
import sys
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1
# Loaded once, here: between fork and exec nothing may be imported.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class StopRequests:
    """How often this process was asked to stop since `listen`, and whether to save."""

    def __init__(self) -> None:
        self.count = 0
        self._save = False
        self._before: dict[signal.Signals, Any] = {}

    def listen(self) -> None:
        """Count the signals from now on, instead of dying of them. SIGHUP stays ignored under nohup."""
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._count)
        self._before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._ask_to_save)

    def restore(self) -> None:
        """Let the signals have the effect again that they had before."""
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()

    @property
    def asked(self) -> bool:
        """Whether there was at least one."""
        return self.count > 0

    def take_save(self) -> bool:
        """Whether a checkpoint was asked for since this was called last."""
        asked, self._save = self._save, False
        return asked

    def _count(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.count += 1

    def _ask_to_save(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._save = True


def die_with_parent() -> None:
    """Be killed when the parent dies, however it dies. Linux only: elsewhere an orphan works on, holding its lease."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def die_with(parent: int) -> None:
    """As `die_with_parent`, in a child just forked: the parent may be gone already."""
    die_with_parent()
    if os.getppid() != parent:
        os._exit(1)
