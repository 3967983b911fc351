"""The folder of one run: what was asked for, what was planned, where it came from, and what happened.

    runs/NAME-ID/   sources/ · recipe.lock.toml · plan.json · env.json · dirty.patch and
                    recipe.patch (uncommitted changes) · events.jsonl · report.md · report.html

In: a plan. Out: files. One recipe with one set of stage keys has one run folder, so that a second invocation goes on
in it. The results themselves are in the store.
"""

import shutil
import tomllib
from pathlib import Path
from typing import Any

import attrs

from nanochat.durable import replace_content
from nanochat.hardware import Machine
from nanochat.recipe.lock import lock_text
from nanochat.registry import Registry
from nanochat.running import provenance
from nanochat.running.json_file import append_line, read_json, write_json, write_text
from nanochat.running.plan import Plan
from nanochat.running.store import StageFolder, Store

LOCK = "recipe.lock.toml"
PLAN = "plan.json"
ENVIRONMENT = "env.json"
EVENTS = "events.jsonl"
REPORT, PAGE = "report.md", "report.html"
SOURCES = "sources"
SET_ASIDE = "stage_set_aside"
"""The event of a result that was moved out of the way of a fresh one."""


@attrs.frozen(kw_only=True)
class RunStage:
    """A stage of a run, as its plan has it."""

    name: str
    use: str
    produces: str
    folder: StageFolder


@attrs.frozen
class RunFolder:
    """A run's folder."""

    path: Path

    def open(self, plan: Plan, machine: Machine, registry: Registry) -> None:
        """Write down what this invocation is about to do. The lock is what the workers read."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._write_sources(plan)
        if plan.recipe.path.absolute() != (self.path / LOCK).absolute():
            # A run of this very lock leaves it as it is: read back, it no longer says what was derived.
            write_text(self.path / LOCK, lock_text(plan.recipe))
        environment, patches = provenance.collect(plan.recipe.path, machine, registry)
        write_json(self.path / ENVIRONMENT, environment)
        for name in provenance.PATCHES.values():
            if name in patches:
                replace_content(self.path / name, patches[name])
            else:
                (self.path / name).unlink(missing_ok=True)
        write_json(self.path / PLAN, plan.description())
        self.event(
            "run_started", argv=environment["argv"], commits=[tree["commit"] for tree in environment["source_trees"]]
        )

    def event(self, event: str, **facts: Any) -> None:
        """Append to events.jsonl."""
        append_line(self.path / EVENTS, {"time": provenance.now(), "event": event, **facts})

    @property
    def plan(self) -> dict[str, Any]:
        """plan.json; empty where there is none."""
        return read_json(self.path / PLAN) or {}

    @property
    def lock(self) -> dict[str, Any]:
        """The recipe as it was locked, unchecked; empty where there is none, or it is torn."""
        try:
            return tomllib.loads((self.path / LOCK).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}

    @property
    def store(self) -> Store:
        """The store beside the runs folder: both move together, and a run elsewhere has its own."""
        return Store(self.path.parent.with_name("store"))

    @property
    def stages(self) -> list[RunStage]:
        """The planned stages, with their folders as they lie now: the plan says where they lay when it was made."""
        return [
            RunStage(
                name=planned["stage"],
                use=planned.get("use", ""),
                produces=planned.get("produces", ""),
                folder=self.store.located(planned["stage"], planned.get("key", ""), Path(planned["folder"])),
            )
            for planned in self.plan.get("stages", [])
        ]

    @property
    def environment(self) -> dict[str, Any]:
        """env.json; empty where there is none."""
        return read_json(self.path / ENVIRONMENT) or {}

    @property
    def started(self) -> str:
        """When it was last started, ISO 8601; empty where it was never."""
        return str(self.environment.get("time", ""))

    @property
    def report(self) -> Path:
        """Where the report is, or will be, as text."""
        return self.path / REPORT

    @property
    def page(self) -> Path:
        """The same with plots, for a browser."""
        return self.path / PAGE

    def _write_sources(self, plan: Plan) -> None:
        folder = self.path / SOURCES
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        taken: set[str] = set()
        for path, content in plan.recipe.files.items():
            name = Path(path).name
            while name in taken:  # files of one name in several folders
                name = f"_{name}"
            taken.add(name)
            replace_content(folder / name, content)
