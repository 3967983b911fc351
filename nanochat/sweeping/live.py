"""A sweep as it is at this moment: its queue, how far the trials at work are, what came out, the best so far.

In: a sweep, looked at again and again. Out: plain data, for `nanochat watch`. Only files are read; what a trial that is
done has left is read once. Not here: how it is shown.
"""

from typing import Any

import attrs

from nanochat.errors import InputError, wrong_input
from nanochat.home import runs_dir
from nanochat.running.live import LiveRun
from nanochat.running.run_folder import RunFolder
from nanochat.sweeping.results import Row, best, row_of
from nanochat.sweeping.sweep import STATES, SWEEP, Sweep, Trial


@attrs.define
class LiveSweep:
    """A sweep that is watched."""

    sweep: Sweep
    _done: dict[int, Row] = attrs.field(factory=dict)
    _runs: dict[str, LiveRun] = attrs.field(factory=dict)

    def look(self) -> dict[str, Any]:
        """How it is now. InputError E405 where it was removed meanwhile.

        `state`: running while a trial runs; waiting where some wait and none runs, and no pause is why; paused; failed
        where all have ended and one failed; else done.
        """
        name = self.sweep.path.name
        if not (self.sweep.path / SWEEP).exists():
            raise wrong_input("E405", f"the sweep {name} is gone: it was removed", help="`nanochat sweeps` lists them")
        found = [(trial, self._row(trial)) for trial in self.sweep.trials()]
        rows = [row for _, row in found]
        states = [row.state for row in rows]
        leader = best(rows)
        return {
            "sweep": name,
            "recipe": str(self.sweep.about.get("recipe", "")),
            "state": self._state(states),
            "paused": self.sweep.paused,
            "counts": {state: states.count(state) for state in STATES},
            "best": leader and {"figure": leader[0], "text": leader[1].text(leader[0]), **attrs.asdict(leader[1])},
            "trials": [self._trial(place, *pair) for place, pair in enumerate(found, start=1)],
        }

    def _state(self, states: list[str]) -> str:
        if "running" in states:
            return "running"
        if "waiting" in states:
            return "paused" if self.sweep.paused else "waiting"
        return "failed" if "failed" in states else "done"

    def _row(self, trial: Trial) -> Row:
        if trial.number in self._done:
            return self._done[trial.number]
        row = row_of(trial)
        if row.state == "done":
            self._done[trial.number] = row
        return row

    def _trial(self, place: int, trial: Trial, row: Row) -> dict[str, Any]:
        return {
            "place": place,
            "trial": trial.number,
            "name": trial.name,
            "settings": dict(row.settings),
            "run": trial.run,
            "state": row.state,
            "seconds": row.seconds,
            "figures": dict(row.figures),
            "error": row.error,
            "at_work": self._at_work(trial) if row.state == "running" else None,
        }

    def _at_work(self, trial: Trial) -> dict[str, Any] | None:
        """The stage that its runner is at, as `LiveRun` tells it, without curves; None before the first."""
        live = self._runs.setdefault(trial.run, LiveRun(RunFolder(runs_dir() / trial.run)))
        try:
            stages = live.look()["stages"]
        except InputError:  # it has no plan yet
            return None
        at_work = next((stage for stage in stages if stage["at_work"]), None)
        return at_work and {name: value for name, value in at_work.items() if name != "curves"}
