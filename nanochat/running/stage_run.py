"""One stage of a run, from its lease to its record.

In: a planned stage, with something to do. Out: how it ended, its folder in the store, and, where it is done, the record
that says so. It is attempted in processes of its own, again where they are lost. Not here: in which order stages
come, and what is said at the end (runner.py); what happens to the processes (attempt.py).
"""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import psutil

from nanochat.errors import NanochatError, stage_failure
from nanochat.quantity import duration
from nanochat.registry import Registry
from nanochat.running.attempt import Attempt, Ending
from nanochat.running.changes import description_of
from nanochat.running.code import code_digests
from nanochat.running.figures import headline, stage_seconds
from nanochat.running.handover import Handover
from nanochat.running.json_file import read_json, read_lines
from nanochat.running.launcher import Launch, Scheduled
from nanochat.running.lease import Lease, lease
from nanochat.running.leftovers import WORKER, end
from nanochat.running.nodes import Calls
from nanochat.running.plan import CODE, Plan, PlannedStage
from nanochat.running.progress import Display
from nanochat.running.provenance import now
from nanochat.running.restarts import Restarts
from nanochat.running.run_folder import EVENTS, RunFolder
from nanochat.running.stop import StopRequests
from nanochat.running.store import CONFIG, Store

_LOOK_SECONDS = 0.1


@attrs.frozen(kw_only=True)
class StageRun:
    """A stage under way."""

    planned: PlannedStage
    plan: Plan
    run: RunFolder
    store: Store
    registry: Registry
    calls: Calls
    display: Display
    requests: StopRequests

    def go(self) -> Ending:
        """Hold its lease, attempt it until it ends, write its record. InputError E402 where somebody else has it."""
        planned, folder, what = self.planned, self.planned.folder, f"stage `{self.planned.name}`"
        with lease(folder.path, what=what) as held:
            if folder.record is not None:
                self.display.say(f"{planned.name}: was finished meanwhile, {folder.path.name}")
                return Ending(state="done")
            if self.requests.asked:
                return Ending(state="stopped", place="before it began")
            self._prepare()
            started, clock = now(), time.monotonic()
            ending = self._attempts(held)
            seconds = round(time.monotonic() - clock, 1)
            ended = {"key": planned.key, "seconds": seconds, **ending.why}
            self.run.event(f"stage_{ending.state}", stage=planned.name, **ended)
            if ending.state == "done":
                self._record(ending, started)
        return ending

    def _prepare(self) -> None:
        """Make the folder ready, say what begins."""
        planned, folder = self.planned, self.planned.folder
        keys = {stage.name: stage.key for stage in self.plan.stages}
        folder.open({**description_of(planned.stage, self.plan.recipe, keys), CODE: self._code()})
        self._observe("before_stage", stage=planned.name, folder=str(folder.path))
        self.display.say(f"{planned.name}: {planned.action} ({planned.why})")
        self.run.event("stage_started", stage=planned.name, folder=str(folder.path), action=planned.action)

    def _code(self) -> Mapping[str, str]:
        """The modules behind the stage: as they are at this moment, or, where it goes on, as they were when it began.

        A result of two codes is one whose code has changed; the plan says so for as long as it is there.
        """
        folder = self.planned.folder
        before = read_json(folder.path / CONFIG) if folder.state == "partial" else None
        return (before or {}).get(CODE) or code_digests(self.planned.stage, self.plan.recipe, self.registry)

    def _attempts(self, held: Lease) -> Ending:
        """Attempt it; again, each time in fresh processes, as long as `Restarts` says."""
        restarts = Restarts(allowed=self.planned.stage.hardware.restarts, reached=self._reached)
        while True:
            ending = self._attempt(held)
            pause = restarts.pause(ending.error, self._reached)
            if pause is None:
                return ending
            self._say_lost(ending, restarts, pause)
            until = time.monotonic() + pause
            while (left := until - time.monotonic()) > 0:
                if self.requests.asked:
                    return Ending(state="stopped", place="before it was started again")
                time.sleep(min(left, _LOOK_SECONDS))

    def _say_lost(self, ending: Ending, restarts: Restarts, pause: float) -> None:
        """What was lost, by its first line: if the last attempt is lost too, its error is told whole."""
        assert ending.error is not None
        planned = self.planned
        lost, step = ending.error.diagnostics[0].message.partition("\n")[0], self._reached
        place = f"from its checkpoint of step {step}" if step >= 0 else "from its beginning"
        count = f"{restarts.used} of {restarts.allowed} without a new checkpoint"
        self.run.event("attempt_lost", stage=planned.name, key=planned.key, error=lost, restart=restarts.used)
        self.display.say(f"warning: {lost}")
        self.display.say(f"{planned.name}: starts again in {pause:.0f} s {place} (restart {count})")

    def _attempt(self, held: Lease) -> Ending:
        planned, launcher = self.planned, self.planned.launcher
        assert launcher is not None
        scheduled = isinstance(launcher, Scheduled)
        if not scheduled and (left := end((), planned.folder.path)):
            return Ending(state="failed", error=_still_at_work(planned.name, left))
        handover = Handover(planned.folder.path)
        handover.clear()
        handover.write_inputs(self.plan.inputs(planned.stage, self.store))
        launch = Launch(
            worker=worker_command(self.run.path, planned),
            stage=planned.name,
            run=self.run.path,
            folder=planned.folder.path,
            attempt=self.calls.attempt(planned),
        )
        return Attempt(
            stage=planned.name,
            command=launcher.command(launch),
            environment=launcher.environment(),
            lease=held,
            events=self.run.path / EVENTS,
            display=self.display,
            requests=self.requests,
            patience=self._patience,
            scheduled=scheduled,
        ).run()

    def _record(self, ending: Ending, started: str) -> None:
        """Declare the stage done: the last thing that is written of it."""
        planned = self.planned
        seconds = stage_seconds(planned.name, planned.key, read_lines(self.run.path / EVENTS))
        tag = getattr(planned.stage.config, "tag", None)
        record = {
            "stage": planned.name,
            **({"tag": tag} if tag else {}),
            "use": planned.stage.use,
            "produces": planned.stage.produces,
            **ending.result,
            "run": self.run.path.name,
            "started": started,
            "finished": now(),
            "seconds": round(seconds, 1),
        }
        planned.folder.write_record(record)
        self.store.drop_set_aside(planned.folder)
        self._observe("after_stage", stage=planned.name, record=record)
        shown = headline(record.get("figures", {}))
        self.display.say(f"{planned.name}: done in {duration(seconds)}{'; ' if shown else ''}{shown}")

    def _observe(self, hook: str, **arguments: Any) -> None:
        for plugin, outcome in self.registry.observe(hook, **arguments):
            if isinstance(outcome, BaseException):
                fault = f"{type(outcome).__name__}: {outcome}"
                self.run.event("observer_failed", plugin=plugin, hook=hook, fault=fault)
                self.display.say(f"warning: {hook} of plugin `{plugin}` failed and is passed over: {fault}")

    @property
    def _reached(self) -> int:
        """The step of its newest checkpoint; -1 where it has none."""
        step = self.planned.folder.last_checkpoint
        return -1 if step is None else step

    @property
    def _patience(self) -> float:
        """How long a process may stand still: when it is given up, the others' wait for it has not ended.

        A job of a scheduler may be requeued, and stand still until it is on again.
        """
        return (
            math.inf
            if isinstance(self.planned.launcher, Scheduled)
            else self.planned.stage.hardware.timeout_seconds / 2
        )


def _still_at_work(stage: str, left: Sequence[psutil.Process]) -> NanochatError:
    """Two attempts at once would write over one another."""
    return stage_failure(
        "E402",
        f"stage `{stage}`: of the attempt before, {', '.join(f'process {each.pid}' for each in left)} was killed and "
        "is not gone",
        help="it waits for a disk or a GPU that does not answer; once it is gone, the same command goes on",
    )


def worker_command(run: Path, planned: PlannedStage) -> list[str]:
    """A complete command line for one worker process. -P: a file of the user's folder never shadows a module."""
    module = [sys.executable, "-P", "-u", "-m", WORKER]
    return [*module, "--run-folder", str(run), "--stage", planned.name, "--folder", str(planned.folder.path)]
