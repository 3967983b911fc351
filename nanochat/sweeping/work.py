"""A worker: takes the next trial that waits, runs its recipe, writes down how it ended, and takes the next.

In: a sweep. Out: outcomes, and an exit code. Several workers may go through one sweep, each on devices of its own; what
trials have in common is in the store and is done once, by whoever comes to it first. A trial that fails ends alone.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import attrs

from nanochat.errors import EXIT_DONE, EXIT_STAGE_FAILED, EXIT_STOPPED, InputError, NanochatError, StageError
from nanochat.home import runs_dir
from nanochat.running.figures import seconds_by_stage
from nanochat.running.lease import lease
from nanochat.running.progress import WARNING, Display
from nanochat.running.reports import Reports
from nanochat.running.request import Request
from nanochat.running.run_folder import RunFolder
from nanochat.running.runner import run_recipe
from nanochat.running.stop import StopRequests
from nanochat.sweeping.sweep import Sweep, Trial

TAKEN = "E402"
"""The code of a lease that someone else holds."""
LOOK_SECONDS = 2.0
"""Between two looks at what others are working on."""
MOST_LOOK_SECONDS = 60.0
"""Each look at a trial that finds it so is followed by the next one after twice the time, up to this."""


@attrs.frozen
class TrialDisplay:
    """A display whose lines begin with the trial's name. Tables are left to the trial's report."""

    inner: Display
    label: str

    def say(self, text: str) -> None:
        """A line that stays."""
        text = text.strip()
        if text.startswith(WARNING):
            self.inner.say(f"{WARNING}: {self.label}: {text.removeprefix(WARNING).lstrip(' :')}")
        elif "\n" not in text:
            self.inner.say(f"{self.label}: {text}")

    def begin(self, stage: str) -> None:
        """A stage starts."""
        self.inner.begin(f"{self.label}: {stage}")

    def update(self, progress: Mapping[str, Any]) -> None:
        """How far it is."""
        self.inner.update(progress)

    def end(self) -> None:
        """The stage has ended."""
        self.inner.end()


class SweepReports(Reports, Protocol):
    """What writes the reports of a sweep and of its runs."""

    def write_sweep(self, sweep: Sweep) -> None:
        """Write the sweep's now."""


def work(
    sweep: Sweep, display: Display, reports: SweepReports | None = None, sleep: Callable[[float], None] = time.sleep
) -> int:
    """Go through the trials until none waits. 75 where it was stopped or is paused before, 1 where a trial failed."""
    requests = StopRequests()  # one for all: who asks while a trial's last step is under way means the others too
    busy = dict[int, tuple[float, float]]()
    """Trials that, or of which a stage, someone else was running: when they are looked at again, and the time between
    two looks. So a trial is taken soon after it can be, and many that wait for one stage do not hold up the others."""
    while True:
        waiting = [trial for trial in sweep.trials() if trial.state == "waiting"]
        if not waiting:
            return _end(sweep)
        if sweep.paused:
            display.say(f"paused; `nanochat sweeps go {sweep.path.name}` lets it go on")
            return EXIT_STOPPED
        if requests.asked:
            return EXIT_STOPPED
        free = [trial for trial in waiting if busy.get(trial.number, (0.0, 0.0))[0] <= time.monotonic()]
        if not free:
            sleep(LOOK_SECONDS)
            continue
        number, state = free[0].number, _take(free[0], sweep, display, reports, requests)
        if state == "busy":
            wait = min(2 * busy.get(number, (0.0, LOOK_SECONDS / 2))[1], MOST_LOOK_SECONDS)
            busy[number] = time.monotonic() + wait, wait
        if reports is not None and state in ("done", "failed"):
            _report(sweep, display, reports)
        if state == "stopped":
            return EXIT_STOPPED


def _take(trial: Trial, sweep: Sweep, display: Display, reports: Reports | None, requests: StopRequests) -> str:
    """Run a trial that waits, unless someone else was faster: done · failed · stopped · busy."""
    try:
        with lease(trial.folder, what=f"trial {trial.number}"):
            if trial.outcome:
                return "done"
            return _run(trial, sweep, display, reports, requests)
    except InputError as fault:
        if _is_taken(fault):
            return "busy"
        raise


def _run(trial: Trial, sweep: Sweep, display: Display, reports: Reports | None, requests: StopRequests) -> str:
    trials = sweep.trials()
    place = next((i for i, other in enumerate(trials, start=1) if other.number == trial.number), trial.number)
    shown = TrialDisplay(display, f"[{place}/{len(trials)} {trial.name}]")
    request = Request(recipe=trial.recipe, until=sweep.until, advice=False)
    started = time.monotonic()
    try:
        code = run_recipe(request, shown, reports, requests)
    except (InputError, StageError) as fault:
        if _is_taken(fault):
            return "busy"
        first = fault.diagnostics[0]
        shown.say(f"{WARNING}: failed: {first.message.partition(chr(10))[0]}")
        trial.end("failed", seconds=_took(trial, started), code=first.code, error=first.message)
        return "failed"
    if code == EXIT_STOPPED:
        return "stopped"
    trial.end("done", seconds=_took(trial, started))
    return "done"


def _report(sweep: Sweep, display: Display, reports: SweepReports) -> None:
    """What goes wrong is said, and ends nothing."""
    try:
        reports.write_sweep(sweep)
    except Exception as fault:
        again = f"`nanochat report --sweep {sweep.path.name}` tries again"
        display.say(f"{WARNING}: the sweep's report was not written: {type(fault).__name__}: {fault}; {again}")


def _is_taken(fault: NanochatError) -> bool:
    return any(found.code == TAKEN for found in fault.diagnostics)


def _took(trial: Trial, started: float) -> float:
    """Of its stages, whoever made them and in however many attempts; where none tells it, since it was started."""
    spent = seconds_by_stage(RunFolder(runs_dir() / trial.run))
    return round(sum(spent.values()) if spent else time.monotonic() - started, 1)


def _end(sweep: Sweep) -> int:
    return EXIT_STAGE_FAILED if any(trial.state == "failed" for trial in sweep.trials()) else EXIT_DONE
