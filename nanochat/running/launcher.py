"""The contract of a launcher: what turns a worker's command line into processes on the right machines.

A plugin's builder is called as `build(hardware) -> Launcher`. The runner starts the command, in a session of its own
and with the environment added, forwards SIGTERM to it, and waits. The worker's command line is complete: its first
word is a program. Every process that is started from it finds RANK, WORLD_SIZE and LOCAL_RANK in its environment;
without them it is alone.
"""

import os
from collections.abc import Sequence
from typing import Protocol

from nanochat.hardware import probe_machine


class Launcher(Protocol):
    """Knows how to start worker processes."""

    def command(self, worker: Sequence[str]) -> list[str]:
        """The command line that starts the worker as often as the hardware table says."""

    def environment(self) -> dict[str, str]:
        """What to add to the environment."""


def thread_settings(processes: int) -> dict[str, str]:
    """OpenMP settings for that many worker processes on one machine, unless the user has set his own.

    Each gets its share of the cores. Idle threads sleep: on shared cores their spinning made a 190 µs layer take 8 ms.
    """
    settings = {"OMP_NUM_THREADS": str(max(1, probe_machine().cpu_cores // processes)), "OMP_WAIT_POLICY": "passive"}
    return {name: value for name, value in settings.items() if name not in os.environ}
