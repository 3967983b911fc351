"""The runner: walks the plan of a recipe, stage by stage.

In: a recipe's path and what the command line adds. Out: records in the store, a report, an exit code. It never imports
torch. The recipe is checked whole, the disk tried and the hardware compared before the first stage starts. Not here:
what happens to one stage (stage_run.py).
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack

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
from nanochat.running.attempt import Ending
from nanochat.running.dry_run import dry_run_lines
from nanochat.running.figures import accuracy_table, finished_stages
from nanochat.running.follower import Follower
from nanochat.running.home import check_home, disk_failure, is_disk_fault
from nanochat.running.lease import lease
from nanochat.running.nodes import Calls, calling, node_rank
from nanochat.running.plan import Plan, PlannedStage, make_plan
from nanochat.running.progress import Display, ShieldedDisplay, make_display
from nanochat.running.reports import NoReports, Reports, RunReport
from nanochat.running.request import Request
from nanochat.running.run_folder import PAGE, SET_ASIDE, RunFolder
from nanochat.running.stage_run import StageRun, worker_command
from nanochat.running.stop import StopRequests
from nanochat.running.store import LOG, Store


def run_recipe(
    request: Request,
    display: Display | None = None,
    reports: Reports | None = None,
    requests: StopRequests | None = None,
) -> int:
    """Do what is left to do. Returns an exit code; NanochatError for what is wrong or fails.

    requests: in which the caller sees whether it was asked to stop meanwhile.
    """
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
            walk = Walk(
                plan=plan,
                report=report,
                store=store,
                registry=registry,
                calls=calls,
                display=display,
                requests=requests or StopRequests(),
            )
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
    requests: StopRequests

    def go(self, stages: Sequence[PlannedStage], request: Request) -> int:
        """Run the stages one after the other, and report however they end."""
        started = time.monotonic()
        self.requests.listen()
        try:
            self._set_aside()
            for planned in stages:
                ending = self._stage(planned).go()
                if ending.state != "done":
                    self.report.write()
                if ending.state == "stopped":
                    return self._stopped(planned, ending, request)
                if ending.state == "failed":
                    raise self._failed(planned, ending)
        finally:
            self.requests.restore()
        self.run.event("run_finished", seconds=round(time.monotonic() - started, 1))
        self._say_end(started, advice=request.advice)
        return EXIT_DONE

    def _stage(self, planned: PlannedStage) -> StageRun:
        return StageRun(
            planned=planned,
            plan=self.plan,
            run=self.run,
            store=self.store,
            registry=self.registry,
            calls=self.calls,
            display=self.report,
            requests=self.requests,
        )

    @property
    def run(self) -> RunFolder:
        """Its folder."""
        return self.report.run

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

    def _say_end(self, started: float, *, advice: bool) -> None:
        self.report.write()
        finished = finished_stages(self.run)
        accuracy = accuracy_table(finished)
        if accuracy:
            self.display.say(f"\n{accuracy}")
        self.display.say(
            f"\ndone in {duration(time.monotonic() - started)}. Report: {self.run.report}, with plots: {PAGE}"
        )
        made_by = [stage.record["use"] for stage in finished if stage.record["produces"] == "checkpoint"]
        if advice and made_by:
            pretrained = all(use == "pretrain" for use in made_by)
            base = f'let it go on with a text: nanochat complete {self.run.path.name} -p "…"'
            self.display.say(base if pretrained else 'talk to it: nanochat chat -p "…"')


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
