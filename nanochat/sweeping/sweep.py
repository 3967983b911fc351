"""A sweep on disk: its trials, in which order they come, and how each of them stands.

    sweeps/NAME/   sweep.json (what was asked for) · order.json · paused (while it is) · lease
                   trials/0001.toml (the trial's whole recipe) · trials/0001/ (lease · outcome.json)

A trial is done or failed where it has an outcome, running where someone holds its lease, else waiting: a killed worker
leaves a trial that waits. Whoever changes the order holds the sweep's lease for a moment; workers ask for none of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from nanochat.errors import did_you_mean, wrong_input
from nanochat.home import home
from nanochat.recipe.lock import lock_text
from nanochat.running.json_file import read_json, write_json, write_text
from nanochat.running.lease import is_held, lease
from nanochat.running.plan import Plan
from nanochat.running.provenance import now

SWEEP, ORDER, PAUSED, OUTCOME = "sweep.json", "order.json", "paused", "outcome.json"
ORDER_SECONDS = 30.0
"""How long somebody else may take to change the order, on a machine that does much else besides."""
STATES = ("done", "running", "failed", "waiting")


@attrs.frozen(kw_only=True)
class Trial:
    """One recipe of a sweep."""

    folder: Path
    number: int
    settings: Sequence[str]
    """`KEY=VALUE`, what sets it apart."""
    run: str
    """The name of its run's folder."""

    @property
    def recipe(self) -> Path:
        """Its whole recipe, with nothing left to derive: what the sweep's recipe becomes later is another matter."""
        return self.folder.with_suffix(".toml")

    @property
    def outcome(self) -> Mapping[str, Any]:
        """`state`, `run`, `seconds`, `error`; empty before its end."""
        return read_json(self.folder / OUTCOME) or {}

    @property
    def state(self) -> str:
        """One of STATES."""
        ended = str(self.outcome.get("state", ""))
        return ended or ("running" if is_held(self.folder) else "waiting")

    @property
    def name(self) -> str:
        """What it is called on the screen: `depth=4 seed=1`."""
        pairs = (setting.partition("=") for setting in self.settings)
        return " ".join(f"{key.rpartition('.')[2]}={value}" for key, _, value in pairs)

    def end(self, state: str, **facts: Any) -> None:
        """Write down how it ended."""
        write_json(self.folder / OUTCOME, {"state": state, "time": now(), **facts})

    def retry(self) -> None:
        """Forget how it ended: it waits again, and what its stages finished is not done again."""
        (self.folder / OUTCOME).unlink(missing_ok=True)


@attrs.frozen
class Sweep:
    """A sweep's folder."""

    path: Path

    @property
    def about(self) -> Mapping[str, Any]:
        """sweep.json: `recipe`, `until`, `overrides`."""
        return read_json(self.path / SWEEP) or {}

    @property
    def until(self) -> str | None:
        """The last stage of each trial."""
        found: str | None = self.about.get("until")
        return found

    @property
    def paused(self) -> bool:
        """Whether no further trial is begun."""
        return (self.path / PAUSED).exists()

    def pause(self, *, paused: bool) -> None:
        """Begin no further trial, or begin them again."""
        if paused:
            write_text(self.path / PAUSED, now() + "\n")
        else:
            (self.path / PAUSED).unlink(missing_ok=True)

    def trials(self) -> list[Trial]:
        """In the order in which they come."""
        listed = (read_json(self.path / ORDER) or {}).get("trials", [])
        return [self._trial(**found) for found in listed]

    def trial(self, number: int) -> Trial:
        """InputError E405 where there is none of this number."""
        found = {trial.number: trial for trial in self.trials()}
        if number not in found:
            known = f"its trials are {', '.join(map(str, sorted(found)))}" if found else "it has none"
            raise wrong_input("E405", f"sweep `{self.path.name}` has no trial {number}", help=known)
        return found[number]

    def add(self, plans: Sequence[tuple[Sequence[str], Plan]]) -> list[Trial]:
        """Put trials at the end; those that are there already stay as they are."""
        with self._order() as order:
            known = {tuple(trial["settings"]) for trial in order}
            number, added = max((trial["number"] for trial in order), default=0), []
            for settings, plan in plans:
                if tuple(settings) in known:
                    continue
                number += 1
                trial = self._trial(number, settings, plan.run_folder.name)
                trial.folder.mkdir(parents=True, exist_ok=True)
                write_text(trial.recipe, lock_text(plan.recipe))
                order.append({"number": number, "settings": list(settings), "run": trial.run})
                added.append(trial)
        return added

    def outdated(self, plans: Sequence[tuple[Sequence[str], Plan]]) -> list[Trial]:
        """Trials that are there, of which these plans now make other runs."""
        runs = {tuple(settings): plan.run_folder.name for settings, plan in plans}
        return [trial for trial in self.trials() if runs.get(tuple(trial.settings), trial.run) != trial.run]

    def move(self, number: int, place: int) -> None:
        """Let a trial come as the one at `place`, counted from 1."""
        self.trial(number)
        with self._order() as order:
            (moved,) = (trial for trial in order if trial["number"] == number)
            order.remove(moved)
            order.insert(max(0, place - 1), moved)

    def drop(self, number: int) -> None:
        """Take a trial out of the order. What it made stays. InputError E402 where it is running."""
        trial = self.trial(number)
        if trial.state == "running":
            raise wrong_input("E402", f"trial {number} is running", help="stop its worker first, by Ctrl-C")
        with self._order() as order:
            order[:] = [found for found in order if found["number"] != number]

    def _trial(self, number: int, settings: Sequence[str], run: str) -> Trial:
        return Trial(folder=self.path / "trials" / f"{number:04d}", number=number, settings=settings, run=run)

    @contextmanager
    def _order(self) -> Iterator[list[dict[str, Any]]]:
        """The list of trials, to be changed while the sweep's lease is held; written back whole."""
        with lease(self.path, what=f"the order of the sweep {self.path.name}", wait=ORDER_SECONDS):
            order = (read_json(self.path / ORDER) or {}).get("trials", [])
            yield order
            write_json(self.path / ORDER, {"trials": order})


def in_words(states: Sequence[str]) -> str:
    """3 done, 1 failed, 2 waiting"""
    return ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states) or "no trials"


def make_sweep(name: str, **about: Any) -> Sweep:
    """A sweep of this name, new or as it is. InputError E407 where one of another recipe has the name."""
    sweep = Sweep(sweeps_dir() / name)
    there = sweep.about
    if there and any(there.get(key) != value for key, value in about.items()):
        differs = ", ".join(key for key, value in about.items() if there.get(key) != value)
        message = f"there is a sweep `{name}` already, with another {differs}"
        raise wrong_input("E407", message, help="give this one a --name of its own, or remove that one's folder")
    if not there:
        sweep.path.mkdir(parents=True, exist_ok=True)
        write_json(sweep.path / SWEEP, about)
    return sweep


def sweeps_dir() -> Path:
    """Where sweeps are kept."""
    return home() / "sweeps"


def list_sweeps() -> list[Sweep]:
    """Every sweep of this home, the newest first."""
    return [Sweep(path.parent) for path in sorted(sweeps_dir().glob(f"*/{SWEEP}"), key=_age)]


def find_sweep(name: str) -> Sweep:
    """InputError E405 where there is none of this name."""
    known = {sweep.path.name: sweep for sweep in list_sweeps()}
    if name not in known:
        near = did_you_mean(name, known) or f"the sweeps there are: {', '.join(known) or 'none'}"
        raise wrong_input("E405", f"there is no sweep `{name}`", help=near)
    return known[name]


def _age(path: Path) -> float:
    return -path.stat().st_mtime
