"""What a command line asks of a run, checked against the recipe and its plan.

In: the words of `nanochat-run`. Out: the stages to go through, or an InputError that names what there is: E407 for
orders that cannot be followed, E405 for a checkpoint that is not there.
"""

from collections.abc import Sequence
from pathlib import Path

import attrs

from nanochat.errors import Diagnostic, InputError, did_you_mean, wrong_input
from nanochat.recipe.resolved import Recipe
from nanochat.running.find import no_such_step
from nanochat.running.plan import Plan, PlannedStage, Return
from nanochat.running.store import checkpoint_steps, is_step


@attrs.frozen(kw_only=True)
class Request:
    """What the command line asks for."""

    recipe: Path
    overrides: Sequence[str] = ()
    until: str | None = None
    """The last stage to run."""
    start: str | None = None
    """The first stage to run; the ones before it must be finished."""
    fresh: Sequence[str] = ()
    """Stages to redo, with what follows them, though they are finished."""
    resume: str | None = None
    """STAGE@STEP, or STAGE@step_000400: the checkpoint to go back to; what follows the stage is redone."""
    dry_run: bool = False
    node_rank: int | None = None
    """Which of several nodes this machine is; None: to be found out."""
    advice: bool = True
    """Whether it is said at the end what to do with what was made."""

    def back(self, recipe: Recipe) -> Return | None:
        """Where --resume goes back to; None where it says no step. The names of all stages are checked before."""
        stage, step = self._resumed
        asked: list[tuple[str, str | None]] = [("--fresh", name) for name in self.fresh]
        asked += [("--until", self.until), ("--from", self.start), ("--resume", stage)]
        wrong = [(option, name) for option, name in asked if name is not None and name not in recipe.stages]
        if wrong:
            raise InputError([_no_stage(option, str(name), recipe) for option, name in wrong])
        return Return(stage=stage, step=step) if stage is not None and step is not None else None

    @property
    def _resumed(self) -> tuple[str | None, int | None]:
        """The stage and the step that --resume names, as far as it does."""
        stage, at, step = (self.resume or "").rpartition("@")
        step = step.removeprefix("step_")  # as its folder is called: step_000400
        return (stage if at else self.resume), (int(step) if at and is_step(step) else None)

    def selected(self, plan: Plan) -> list[PlannedStage]:
        """The stages between --from and --until, in the plan's order."""
        self._require_step(plan)
        names = [stage.name for stage in plan.stages]
        first = names.index(self.start) if self.start else 0
        last = names.index(self.until) if self.until else len(names) - 1
        order = f"the stages' order is {', '.join(names)}"
        asked = [f"--fresh {name}" for name in self.fresh if names.index(name) > last]
        if plan.back is not None and names.index(plan.back.stage) > last:
            asked.append(f"--resume {self.resume}")
        if first > last or asked:
            other = asked[0] if asked else f"--from {self.start}"
            raise wrong_input("E407", f"--until {self.until} comes before {other}", help=order)
        if plan.back is not None and names.index(plan.back.stage) < first:
            raise wrong_input("E407", f"--from {self.start} comes after --resume {self.resume}", help=order)
        unfinished = [stage.name for stage in plan.stages[:first] if stage.action != "reuse"]
        if unfinished:
            raise wrong_input(
                "E407",
                f"--from {self.start}: {', '.join(unfinished)} comes before it and is not finished",
                help="run without --from: finished stages are not run again",
            )
        self._check_return(plan)
        return list(plan.stages[first : last + 1])

    def _require_step(self, plan: Plan) -> None:
        """--resume without a step: the error lists those there are."""
        if self.resume is None or plan.back is not None:
            return
        planned = next(stage for stage in plan.stages if stage.name == self._resumed[0])
        steps = checkpoint_steps(planned.folder.path)
        there = f"`{planned.name}` has no checkpoint to go back to"
        if steps:
            there = f"its steps are {', '.join(map(str, steps))}: for example --resume {planned.name}@{steps[-1]}"
        raise wrong_input("E407", f"--resume {self.resume} is no STAGE@STEP", help=there)

    def _check_return(self, plan: Plan) -> None:
        """A stage that is made from its beginning has nothing to go back to, nor has one without that checkpoint."""
        if plan.back is None:
            return
        planned = next(stage for stage in plan.stages if stage.name == plan.back.stage)
        if planned.fresh:
            raise wrong_input("E407", f"--resume {self.resume}: {planned.why}", help="leave out --fresh or --resume")
        if plan.back.step not in checkpoint_steps(planned.folder.path):
            raise no_such_step(planned.name, [planned.folder], plan.back.step)


def _no_stage(option: str, name: str, recipe: Recipe) -> Diagnostic:
    near = did_you_mean(name, recipe.stages)
    known = f"its stages are {', '.join(recipe.stages)}"
    message = f"{option} {name}: the recipe has no stage `{name}`"
    return Diagnostic(code="E407", message=message, label=near, help=known)
