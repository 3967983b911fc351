"""The plan: what a run of a recipe would do to each stage, and why.

In: a resolved recipe, the store, the machine. Out: one planned stage each: reuse · resume · run · blocked, with
reasons. Planning reads a few small files; it touches no network, imports no torch and changes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs

from nanochat.errors import wrong_input
from nanochat.hardware import Machine, missing
from nanochat.home import runs_dir
from nanochat.recipe.artifacts import KEY_CHARACTERS, artifact_in
from nanochat.recipe.resolved import Recipe, Stage
from nanochat.registry import Registry
from nanochat.running.changes import Change, nearest_other
from nanochat.running.code import changed_modules, code_digests
from nanochat.running.json_file import read_json
from nanochat.running.keys import artifacts, run_digest, stage_keys
from nanochat.running.launcher import Launcher, Scheduled, launcher_of
from nanochat.running.store import CONFIG, StageFolder, Store, checkpoint_steps

CODE = "code"
"""In a stage's config.json: the digests of the modules behind it when its making began."""
Action = Literal["reuse", "resume", "run", "blocked"]
_SHOWN_CHANGES = 4
_SHOWN_MODULES = 3


@attrs.frozen(kw_only=True)
class Return:
    """An earlier checkpoint to go back to."""

    stage: str
    step: int


@attrs.frozen(kw_only=True)
class PlannedStage:
    """What would happen to one stage."""

    stage: Stage
    key: str
    folder: StageFolder
    action: Action
    why: str
    changes: tuple[Change, ...] = ()
    since: str = ""
    """run: the other result that `changes` are compared with."""
    drift: tuple[str, ...] = ()
    """reuse, resume: modules whose source has changed since, though no revision was raised."""
    fresh: bool = False
    """An old result is to be set aside first; also where the stage is blocked: it follows from what is replaced."""
    back_to: int | None = None
    """The record and the checkpoints after this step are to be set aside first."""
    launcher: Launcher | None = None
    """What starts it, here or, where it is blocked, elsewhere; None where it is done."""

    @property
    def name(self) -> str:
        """The stage's name in the recipe."""
        return self.stage.name

    @property
    def to_do(self) -> bool:
        """Whether there is work."""
        return self.action in ("run", "resume")

    @property
    def replaced(self) -> bool:
        """Whether the result that is there, or a part of it, is to be set aside."""
        return self.fresh or self.back_to is not None

    def description(self) -> dict[str, Any]:
        """As plain data, for plan.json and `nanochat plan --json`."""
        return {
            "stage": self.name,
            "use": self.stage.use,
            "produces": self.stage.produces,
            "key": self.key,
            "folder": str(self.folder.path),
            "action": self.action,
            "why": self.why,
            "since": self.since,
            "changes": [attrs.asdict(change) for change in self.changes],
            "drift": list(self.drift),
        }

    def drift_warning(self) -> str:
        """What is said where the result may be stale; empty where the code is what made it."""
        if not self.drift:
            return ""
        shown = ", ".join(self.drift[:_SHOWN_MODULES])
        more = f" and {len(self.drift) - _SHOWN_MODULES} more" if len(self.drift) > _SHOWN_MODULES else ""
        return (
            f"{self.name}: the code behind {self.folder.path.name} has changed since, and no revision was raised: "
            f"{shown}{more}. If results change, --fresh {self.name}"
        )


@attrs.frozen(kw_only=True)
class Plan:
    """The planned stages of a recipe, inputs before what uses them."""

    recipe: Recipe
    run_folder: Path
    stages: tuple[PlannedStage, ...]
    back: Return | None = None

    @property
    def to_do(self) -> list[PlannedStage]:
        """The stages with work."""
        return [stage for stage in self.stages if stage.to_do]

    @property
    def blocked(self) -> list[PlannedStage]:
        """The stages that cannot run on this machine."""
        return [stage for stage in self.stages if stage.action == "blocked"]

    def inputs(self, stage: Stage, store: Store, *, only: Collection[str] | None = None) -> dict[str, Path]:
        """Where the artifacts that a stage uses lie: reference → folder. Those of stages to do are not there yet.

        only: these references alone.
        """
        folders = {planned.name: planned.folder for planned in self.stages}
        found: dict[str, Path] = {}
        for _, artifact in artifacts(stage.config):
            if only is not None and artifact.reference not in only:
                continue
            kind, _, rest = artifact.reference.partition(":")
            if kind == "stage":
                found[artifact.reference] = folders[stage.inputs[artifact.reference]].artifact
            elif kind == "store":
                found[artifact.reference] = store.by_key(rest).artifact
            else:
                found[artifact.reference] = artifact_in(artifact.path or Path(rest).expanduser().absolute())
        return found

    def description(self) -> dict[str, Any]:
        """As plain data, for plan.json and `nanochat plan --json`."""
        return {
            "recipe": self.recipe.name,
            "path": str(self.recipe.path),
            "run": str(self.run_folder),
            "stages": [stage.description() for stage in self.stages],
        }


def make_plan(
    recipe: Recipe,
    machine: Machine,
    store: Store,
    registry: Registry,
    *,
    fresh: Collection[str] = (),
    back: Return | None = None,
) -> Plan:
    """Decide for every stage. `fresh`: stages to redo though a result is there; `back`: one that goes back to an
    earlier checkpoint. What follows them is redone too.
    """
    planner = _Planner(
        recipe=recipe,
        keys=stage_keys(recipe),
        machine=machine,
        store=store,
        registry=registry,
        fresh=fresh,
        back=back,
    )
    for stage in recipe.stages.values():
        planner.planned[stage.name] = planner.plan(stage)
    run_folder = runs_dir() / f"{recipe.name}-{run_digest(planner.keys)[:KEY_CHARACTERS]}"
    return Plan(recipe=recipe, run_folder=run_folder, stages=tuple(planner.planned.values()), back=back)


@attrs.define(kw_only=True)
class _Planner:
    """What is known while stages are planned, inputs before what uses them."""

    recipe: Recipe
    keys: Mapping[str, str]
    machine: Machine
    store: Store
    registry: Registry
    fresh: Collection[str]
    back: Return | None
    planned: dict[str, PlannedStage] = attrs.field(factory=dict)

    def plan(self, stage: Stage) -> PlannedStage:
        """Decide for one stage."""
        key = self.keys[stage.name]
        folder = self.store.folder(stage.name, key)
        inputs = [self.planned[name] for name in dict.fromkeys(stage.inputs.values())]
        afresh = self._afresh(stage, inputs)
        back_to = self.back.step if self.back and self.back.stage == stage.name and not afresh else None
        changes: tuple[Change, ...] = ()
        since, launcher = "", None
        action: Action = "run"
        done = folder.state == "done" and not afresh and back_to is None
        if not done:
            launcher = launcher_of(stage, self.registry)
        if done:
            action, why = "reuse", "finished " + str((folder.record or {}).get("finished", ""))[:16].replace("T", " ")
        elif lacking := self._lacking(stage, inputs, launcher):
            action, why = "blocked", lacking
        elif afresh:
            why = afresh
        elif back_to is not None:
            action, why = "resume", _why_back(folder, back_to)
        elif folder.state == "partial":
            action, why = "resume", f"stopped; its newest checkpoint is of step {folder.last_checkpoint}"
        else:
            since, changes = nearest_other(stage, self.recipe, self.keys, self.store) or ("", ())
            why = _why_run(changes, since)
        before = (read_json(folder.path / CONFIG) or {}).get(CODE) if action in ("reuse", "resume") else None
        return PlannedStage(
            stage=stage,
            key=key,
            folder=folder,
            action=action,
            why=why,
            changes=changes,
            since=since,
            drift=changed_modules(before, code_digests(stage, self.recipe, self.registry)) if before else (),
            fresh=bool(afresh),
            back_to=back_to if action == "resume" else None,
            launcher=launcher,
        )

    def _afresh(self, stage: Stage, inputs: Sequence[PlannedStage]) -> str:
        """Why the stage is redone whatever there is, or an empty string."""
        if stage.name in self.fresh:
            return "asked for by --fresh"
        redone = [planned.name for planned in inputs if planned.replaced]
        return f"{' and '.join(redone)} is made afresh" if redone else ""

    def _lacking(self, stage: Stage, inputs: Sequence[PlannedStage], launcher: Launcher | None) -> str:
        """Why the stage cannot run, or an empty string."""
        waiting = [planned.name for planned in inputs if planned.action == "blocked"]
        for_inputs = f"needs {' and '.join(waiting)}, which is blocked" if waiting else ""
        if isinstance(launcher, Scheduled):  # to be computed on another machine
            return for_inputs
        return lacking(stage, self.machine) or for_inputs


def lacking(stage: Stage, machine: Machine) -> str:
    """Why a machine cannot run a stage, or its hardware cannot do what a transform of its model needs, with what to do;
    or an empty string.
    """
    if missed := missing(stage.hardware, machine):
        return missed
    for transform in getattr(stage.config, "transforms", {}).values():
        asked = getattr(transform.config, "lacks", None)
        try:
            said = asked(stage.hardware, machine) if callable(asked) else ""
        except Exception as fault:  # a plugin's method
            message = f"lacks() of the transform `{transform.use}` failed: {type(fault).__name__}: {fault}"
            raise wrong_input("E202", message) from fault
        if said:
            return str(said)
    return ""


def _why_back(folder: StageFolder, step: int) -> str:
    later = [str(found) for found in checkpoint_steps(folder.path) if found > step]
    aside = [
        *(["its result"] if folder.record else []),
        *([f"later checkpoints ({', '.join(later)})"] if later else []),
    ]
    return f"--resume goes back to step {step}" + (f"; {' and '.join(aside)} set aside" if aside else "")


def _why_run(changes: tuple[Change, ...], since: str) -> str:
    if not changes:
        return "no result yet"
    shown = "; ".join(str(change) for change in changes[:_SHOWN_CHANGES])
    more = f"; and {len(changes) - _SHOWN_CHANGES} more" if len(changes) > _SHOWN_CHANGES else ""
    return f"{shown}{more}; since {since}"
