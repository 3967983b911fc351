"""The contract of a launcher: what turns a worker's command line into processes on the right machines.

A plugin's builder is called as `build(hardware) -> Launcher`, while the recipe is planned: it refuses settings that do
not fit together (InputError E115) and does nothing else. For each attempt at a stage the runner asks for the command,
starts it in a session of its own with the environment added, passes SIGTERM on to it, and waits for its end. What the
processes have to tell (result, error, that they saved and stopped) they write into the stage's folder; the exit code
of the command counts where they wrote nothing. So the launcher passes SIGTERM on to every worker, gives them the time
to finish a step and save, ends when the last of them has ended, and never starts them again by itself unless it clears
`Launch.words` first.

The worker's command line is complete: its first word is a program. Every process that is started from it finds RANK,
WORLD_SIZE and LOCAL_RANK in its environment; without them it is alone. All machines see the run's folder, the store
and the data under the same paths.

A launcher for several machines is one of two kinds:

- `OnEachNode`: the user, or a scheduler, gives the same `nanochat-run` on each machine, and the launcher starts what
  belongs to this one. The first node's runner alone holds the leases and writes records; the others are called by it
  (`nanochat.running.nodes`).
- `Scheduled`: the command hands a script to a scheduler and waits for the job; nothing is computed on this machine.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import attrs

from nanochat.errors import InputError, wrong_input
from nanochat.hardware import probe_machine
from nanochat.recipe.resolved import Stage
from nanochat.registry import Registry
from nanochat.running.handover import Handover


@attrs.frozen(kw_only=True)
class Launch:
    """One attempt at a stage, as a launcher needs to know it."""

    worker: Sequence[str]
    """The command line of one worker process."""
    stage: str
    run: Path
    """The run's folder. Lines {"event": "note", "stage": …, "text": …} in its events.jsonl are shown to the user."""
    folder: Path
    """The stage's folder in the store. A launcher keeps files of its own in a folder `launch` below it."""
    attempt: str
    """Names this attempt on every node; another one each time."""
    node_rank: int | None = 0
    """Which of the nodes this machine is; None: not the first, and any of the others."""
    shown: bool = False
    """It is only looked at, here: what another machine alone can tell stands in it by name."""

    @property
    def words(self) -> Path:
        """Where the workers write how they ended: stopped.json, error-RANK.json, result.json."""
        return Handover(self.folder).folder


_OF_A_MACHINE = ("device", "nproc_per_node")
"""Settings that are looked up on the machine where they are not set."""


class Launcher(Protocol):
    """Knows how to start worker processes."""

    def command(self, launch: Launch) -> list[str]:
        """The command line that starts the worker as often as the hardware table says. Nothing is written yet."""

    def environment(self) -> dict[str, str]:
        """What to add to the environment."""


@runtime_checkable
class OnEachNode(Launcher, Protocol):
    """A launcher whose command is started on each of several machines."""

    def is_first_node(self) -> bool:
        """Whether this machine is where the others come to."""


@runtime_checkable
class Scheduled(Launcher, Protocol):
    """A launcher that hands a script to a scheduler; devices and processes are not this machine's."""

    def script(self, launch: Launch) -> str:
        """What the scheduler is given, for `--dry-run` to show."""


def launcher_of(stage: Stage, registry: Registry) -> Launcher:
    """The launcher of a stage's hardware table. InputError where it is broken, or settings do not fit together."""
    chosen = stage.values["stages", stage.name, "hardware", "launcher"].origin.location or stage.location
    try:
        made: Launcher = registry.builder("launcher", stage.hardware.launcher)(stage.hardware)
        if isinstance(made, Scheduled):
            _refuse_guesses(stage)
    except InputError as fault:
        raise InputError(attrs.evolve(d, location=d.location or chosen) for d in fault.diagnostics) from fault
    return made


def _refuse_guesses(stage: Stage) -> None:
    origins = {name: stage.values["stages", stage.name, "hardware", name].origin for name in _OF_A_MACHINE}
    guessed = [name for name, origin in origins.items() if origin.kind == "derived"]
    if guessed:
        raise wrong_input(
            "E115",
            f'launcher "{stage.hardware.launcher}" computes on other machines; {" and ".join(guessed)} of stage '
            f"`{stage.name}` would be as on this one",
            help='say what is there in [hardware]: device = "cuda", nproc_per_node = 8',
        )


def thread_settings(processes: int) -> dict[str, str]:
    """OpenMP settings for that many worker processes on one machine, unless the user has set his own.

    Each gets its share of the cores. Idle threads sleep: on shared cores their spinning made a 190 µs layer take 8 ms.
    """
    settings = {"OMP_NUM_THREADS": str(max(1, probe_machine().cpu_cores // processes)), "OMP_WAIT_POLICY": "passive"}
    return {name: value for name, value in settings.items() if name not in os.environ}
