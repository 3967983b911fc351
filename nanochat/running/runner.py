"""The runner: walks the plan of a recipe, stage by stage, each in processes of its own.

In: a recipe's path and what the command line adds. Out: records in the store, a report, an exit code. It never imports
torch. The recipe is checked whole, the disk tried and the hardware compared before the first stage starts.
"""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs

from nanochat.errors import (
    EXIT_DONE,
    EXIT_STOPPED,
    Diagnostic,
    InputError,
    NanochatError,
    StageError,
)
from nanochat.hardware import probe_machine
from nanochat.quantity import duration
from nanochat.recipe.load import load_recipe
from nanochat.registry import Registry, load_registry
from nanochat.running.attempt import Attempt, Ending
from nanochat.running.changes import description_of
from nanochat.running.code import code_digests
from nanochat.running.dry_run import dry_run_lines
from nanochat.running.figures import accuracy_table, finished_stages, headline, stage_seconds
from nanochat.running.follower import Follower
from nanochat.running.handover import Handover
from nanochat.running.home import check_home, disk_failure, is_disk_fault
from nanochat.running.json_file import read_json, read_lines
from nanochat.running.launcher import Launch, Scheduled
from nanochat.running.lease import Lease, lease
from nanochat.running.nodes import Calls, calling, node_rank
from nanochat.running.plan import CODE, Plan, PlannedStage, make_plan
from nanochat.running.progress import Display, ShieldedDisplay, make_display
from nanochat.running.provenance import now
from nanochat.running.reports import NoReports, Reports, RunReport
from nanochat.running.request import Request
from nanochat.running.restarts import Restarts
from nanochat.running.run_folder import EVENTS, PAGE, SET_ASIDE, RunFolder
from nanochat.running.stop import StopRequests
from nanochat.running.store import CONFIG, LOG, Store

_LOOK_SECONDS = 0.1


def run_recipe(request: Request, display: Display | None = None, reports: Reports | None = None) -> int:
    """Do what is left to do. Returns an exit code; NanochatError for what is wrong or fails."""
    display = ShieldedDisplay(display or make_display())
    machine, store, registry = probe_machine(), Store(), load_registry()
    recipe = load_recipe(request.recipe, overrides=request.overrides, registry=registry, machine=machine)
    for warning in recipe.warnings:
        display.say(warning.render())
    plan = make_plan(recipe, machine, store, registry, fresh=request.fresh, back=request.back(recipe))
    stages = request.selected(plan)
    for stage in stages:
        if stage.drift:
            display.say(f"warning: {stage.drift_warning()}")
    if request.dry_run:
        for line in dry_run_lines(plan.run_folder, stages, worker_command):
            display.say(line)
        return EXIT_DONE
    _refuse_blocked(stages)
    rank = node_rank(request.node_rank, stages)
    if rank != 0:
        return _follow(plan, stages, rank, display)
    _rename(stages, display)
    run = RunFolder(plan.run_folder)
    report = RunReport(run=run, reports=reports or NoReports(), display=display)
    if not any(stage.to_do for stage in stages) and run.plan:
        report.write()  # another run may have finished what this one's lacks
        display.say(f"nothing to do: every stage asked for is finished. Report: {run.report}")
        return EXIT_DONE
    check_home()
    try:
        with lease(run.path, what=f"the run {run.path.name}"), calling(run.path, stages) as calls:
            run.open(plan, machine, registry)
            walk = Walk(plan=plan, report=report, store=store, registry=registry, calls=calls, display=display)
            calls.exit_code = walk.go([stage for stage in stages if stage.to_do], request)
            return calls.exit_code
    except OSError as fault:
        if is_disk_fault(fault):
            raise disk_failure(run.path, fault) from fault
        raise


@attrs.define(kw_only=True)
class Walk:
    """A run under way."""

    plan: Plan
    report: RunReport
    store: Store
    registry: Registry
    calls: Calls
    display: Display
    requests: StopRequests = attrs.field(factory=StopRequests)

    def go(self, stages: Sequence[PlannedStage], request: Request) -> int:
        """Run the stages one after the other, and report however they end."""
        started = time.monotonic()
        self.requests.listen()
        try:
            self._set_aside()
            for planned in stages:
                ending = self._run_stage(planned)
                if ending.state != "done":
                    self.report.write()
                if ending.state == "stopped":
                    return self._stopped(planned, ending, request)
                if ending.state == "failed":
                    raise self._failed(planned, ending)
        finally:
            self.requests.restore()
        self.run.event("run_finished", seconds=round(time.monotonic() - started, 1))
        self._say_end(started)
        return EXIT_DONE

    def _set_aside(self) -> None:
        """Move all that is to be made afresh out of the way, before the first stage runs and last stages first: an
        interruption, or --until, leaves no result behind that follows from what was replaced. All or nothing: where
        somebody works on one of them, none is moved.
        """
        replaced = [s for s in self.plan.stages if s.replaced and s.folder.path.exists()]
        with ExitStack() as held:
            for planned in replaced:
                held.enter_context(lease(planned.folder.path, what=f"stage `{planned.name}`"))
            for planned in reversed(replaced):
                self._move(planned)

    def _move(self, planned: PlannedStage) -> None:
        if planned.back_to is not None:
            self.store.set_back(planned.folder, planned.back_to)
        else:
            self.store.set_aside(planned.folder)
            self.run.event(SET_ASIDE, stage=planned.name, key=planned.key)

    def _run_stage(self, planned: PlannedStage) -> Ending:
        folder, what = planned.folder, f"stage `{planned.name}`"
        with lease(folder.path, what=what) as held:
            if folder.record is not None:
                self.display.say(f"{planned.name}: was finished meanwhile, {folder.path.name}")
                return Ending(state="done")
            if self.requests.asked:
                return Ending(state="stopped", place="before it began")
            self._prepare(planned)
            started, clock = now(), time.monotonic()
            ending = self._attempts(planned, held)
            seconds = round(time.monotonic() - clock, 1)
            self.run.event(f"stage_{ending.state}", stage=planned.name, key=planned.key, seconds=seconds, **ending.why)
            if ending.state == "done":
                self._record(planned, ending, started)
        return ending

    def _prepare(self, planned: PlannedStage) -> None:
        """Make the folder ready, say what begins."""
        folder = planned.folder
        folder.open({**description_of(planned.stage, self.plan.recipe, self._keys), CODE: self._code(planned)})
        self._observe("before_stage", stage=planned.name, folder=str(folder.path))
        self.display.say(f"{planned.name}: {planned.action} ({planned.why})")
        self.run.event("stage_started", stage=planned.name, folder=str(folder.path), action=planned.action)

    def _code(self, planned: PlannedStage) -> Mapping[str, str]:
        """The modules behind the stage: as they are at this moment, or, where it goes on, as they were when it began.

        A result of two codes is one whose code has changed; the plan says so for as long as it is there.
        """
        before = read_json(planned.folder.path / CONFIG) if planned.folder.state == "partial" else None
        return (before or {}).get(CODE) or code_digests(planned.stage, self.plan.recipe, self.registry)

    def _attempts(self, planned: PlannedStage, held: Lease) -> Ending:
        """Attempt it; again, each time in fresh processes, as long as `Restarts` says."""
        restarts = Restarts(allowed=planned.stage.hardware.restarts, reached=_reached(planned))
        while True:
            ending = self._attempt(planned, held)
            pause = restarts.pause(ending.error, _reached(planned))
            if pause is None:
                return ending
            self._say_lost(planned, ending, restarts, pause)
            until = time.monotonic() + pause
            while (left := until - time.monotonic()) > 0:
                if self.requests.asked:
                    return Ending(state="stopped", place="before it was started again")
                time.sleep(min(left, _LOOK_SECONDS))

    def _say_lost(self, planned: PlannedStage, ending: Ending, restarts: Restarts, pause: float) -> None:
        """What was lost, by its first line: if the last attempt is lost too, its error is told whole."""
        assert ending.error is not None
        lost, step = ending.error.diagnostics[0].message.partition("\n")[0], _reached(planned)
        place = f"from its checkpoint of step {step}" if step >= 0 else "from its beginning"
        count = f"{restarts.used} of {restarts.allowed} without a new checkpoint"
        self.run.event("attempt_lost", stage=planned.name, key=planned.key, error=lost, restart=restarts.used)
        self.display.say(f"warning: {lost}")
        self.display.say(f"{planned.name}: starts again in {pause:.0f} s {place} (restart {count})")

    def _attempt(self, planned: PlannedStage, held: Lease) -> Ending:
        handover = Handover(planned.folder.path)
        handover.clear()
        handover.write_inputs(self.plan.inputs(planned.stage, self.store))
        launcher = planned.launcher
        assert launcher is not None
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
            display=self.report,
            requests=self.requests,
            patience=_patience(planned),
        ).run()

    def _record(self, planned: PlannedStage, ending: Ending, started: str) -> None:
        """Declare the stage done: the last thing that is written of it."""
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

    def _stopped(self, planned: PlannedStage, ending: Ending, request: Request) -> int:
        given = [word for word, value in (("--fresh", request.fresh), ("--resume", request.resume)) if value]
        without = f", without {' and '.join(given)}," if given else ""
        self.display.say(f"stopped {planned.name} {ending.place}; the same command{without} goes on")
        return EXIT_STOPPED

    def _failed(self, planned: PlannedStage, ending: Ending) -> NanochatError:
        """The workers' own error, with the place of the log."""
        assert ending.error is not None
        first, *rest = ending.error.diagnostics
        log = f"the log: {planned.folder.path / LOG}"
        first = attrs.evolve(first, help=f"{first.help}\n  = note: {log}" if first.help else log)
        kind = StageError if isinstance(ending.error, StageError) else InputError
        return kind([first, *rest])

    def _say_end(self, started: float) -> None:
        self.report.write()
        finished = finished_stages(self.run)
        accuracy = accuracy_table(finished)
        if accuracy:
            self.display.say(f"\n{accuracy}")
        self.display.say(
            f"\ndone in {duration(time.monotonic() - started)}. Report: {self.run.report}, with plots: {PAGE}"
        )
        if any(stage.record["produces"] == "checkpoint" for stage in finished):
            self.display.say('talk to it: nanochat chat -p "…"')

    @property
    def run(self) -> RunFolder:
        return self.report.run

    @property
    def _keys(self) -> dict[str, str]:
        return {planned.name: planned.key for planned in self.plan.stages}


def _reached(planned: PlannedStage) -> int:
    """The step of its newest checkpoint; -1 where it has none."""
    step = planned.folder.last_checkpoint
    return -1 if step is None else step


def _patience(planned: PlannedStage) -> float:
    """How long a process may stand still: when it is given up, the others' wait for it has not ended.

    A job of a scheduler may be requeued, and stand still until it is on again.
    """
    return math.inf if isinstance(planned.launcher, Scheduled) else planned.stage.hardware.timeout_seconds / 2


def worker_command(run: Path, planned: PlannedStage) -> list[str]:
    """A complete command line for one worker process. -P: a file of the user's folder never shadows a module."""
    module = [sys.executable, "-P", "-u", "-m", "nanochat.running.worker"]
    return [*module, "--run-folder", str(run), "--stage", planned.name, "--folder", str(planned.folder.path)]


def _follow(plan: Plan, stages: Sequence[PlannedStage], rank: int | None, display: Display) -> int:
    """As a node that is not the first."""
    to_do = {planned.name: planned for planned in stages if planned.to_do}
    patience = max((planned.stage.hardware.rendezvous_timeout for planned in to_do.values()), default=0)
    follower = Follower(
        run=plan.run_folder,
        stages=to_do,
        worker=worker_command,
        node_rank=rank,
        patience=patience,
        display=display,
    )
    return follower.go()


def _refuse_blocked(stages: Sequence[PlannedStage]) -> None:
    blocked = [stage for stage in stages if stage.action == "blocked"]
    if blocked:
        raise InputError(
            Diagnostic(
                code="E404",
                message=f"stage `{stage.name}` is blocked: {stage.why}",
                location=stage.stage.location,
                help="run it on a machine that has it, or change [hardware]: --set hardware.device=cpu",
            )
            for stage in blocked
        )


def _rename(stages: Sequence[PlannedStage], display: Display) -> None:
    """Call finished checkpoints as the recipe says now: a tag is no part of a key, so nothing is redone for it."""
    for planned in stages:
        tag, record = getattr(planned.stage.config, "tag", None), planned.folder.record
        if planned.action != "reuse" or not tag or record is None or record.get("tag") == tag:
            continue
        with lease(planned.folder.path, what=f"stage `{planned.name}`"):
            if planned.folder.record is None:
                continue  # replaced, or removed, meanwhile
            planned.folder.write_record({**record, "tag": tag})
        display.say(f"{planned.name}: its tag is `{tag}` now" + (f", was `{record['tag']}`" if "tag" in record else ""))
