"""A sweep on disk: its trials, in which order they come, and how each of them stands.

    sweeps/NAME/   sweep.json (what was asked for) · order.json · paused (while it is) · lease
                   trials/0001.toml (the trial's whole recipe) · trials/0001/ (lease · outcome.json)

A trial is done or failed where it has an outcome, running where someone holds its lease, else waiting: a killed worker
leaves a trial that waits. Its number is never given to another. Whoever changes the order holds the sweep's lease for a
moment; workers ask for none of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs

from nanochat.errors import InputError, did_you_mean, wrong_input
from nanochat.home import home, runs_dir
from nanochat.quantity import counted
from nanochat.recipe.lock import lock_text
from nanochat.recipe.notation import is_name
from nanochat.running.json_file import read_json, write_json, write_text
from nanochat.running.lease import is_held, lease
from nanochat.running.plan import Plan
from nanochat.running.provenance import now
from nanochat.running.run_folder import RunFolder
from nanochat.sweeping.axes import in_short

SWEEP, ORDER, PAUSED, OUTCOME = "sweep.json", "order.json", "paused", "outcome.json"
ORDER_SECONDS = 30.0
"""How long somebody else may take to change the order, on a machine that does much else besides."""
STATES = ("done", "running", "failed", "waiting")
TRIALS = "trials"
"""The folder of the trials, and what order.json calls them."""
_OF_A_TRIAL = {"number", "settings", "run"}
"""What order.json says of each."""


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
        """`state`, `time`, `seconds` of its stages, `error`; empty before its end."""
        return read_json(self.folder / OUTCOME) or {}

    @property
    def state(self) -> str:
        """One of STATES."""
        ended = str(self.outcome.get("state", ""))
        return ended or ("running" if is_held(self.folder) else "waiting")

    @property
    def name(self) -> str:
        """What it is called on the screen: `depth=4 seed=1`."""
        return in_short(setting.partition("=")[::2] for setting in self.settings)

    @property
    def is_removed(self) -> bool:
        """Whether it is done, and the run with what came out is gone."""
        return self.state == "done" and not RunFolder(runs_dir() / self.run).plan

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
        return [self._trial(**found) for found in self._listed()]

    def trial(self, number: int) -> Trial:
        """InputError E405 where there is none of this number."""
        found = {trial.number: trial for trial in self.trials()}
        if number not in found:
            known = f"its trials are {', '.join(map(str, sorted(found)))}" if found else "it has none"
            raise wrong_input("E405", f"sweep `{self.path.name}` has no trial {number}", help=known)
        return found[number]

    def add(self, plans: Sequence[tuple[Sequence[str], Plan]]) -> list[Trial]:
        """Put trials at the end, their settings in the order of the first trial's; those that are there stay."""
        with self._order() as order:
            known = {frozenset(trial["settings"]) for trial in order}
            places = {_key(setting): place for place, setting in enumerate(order[0]["settings"] if order else [])}
            number, added = max([0, *self._numbers(), *(trial["number"] for trial in order)]), []
            for settings, plan in plans:
                if frozenset(settings) in known:
                    continue
                known.add(frozenset(settings))
                number += 1
                ordered = sorted(settings, key=lambda setting: places.get(_key(setting), len(places)))
                trial = self._trial(number, ordered, plan.run_folder.name)
                trial.folder.mkdir(parents=True, exist_ok=True)
                write_text(trial.recipe, lock_text(plan.recipe))
                order.append({"number": number, "settings": ordered, "run": trial.run})
                added.append(trial)
        return added

    def outdated(self, plans: Sequence[tuple[Sequence[str], Plan]]) -> list[Trial]:
        """Trials that are there, of which these plans now make other runs."""
        runs = {frozenset(settings): plan.run_folder.name for settings, plan in plans}
        return [trial for trial in self.trials() if runs.get(frozenset(trial.settings), trial.run) != trial.run]

    def move(self, number: int, place: int) -> int:
        """Let a trial come as the one at `place`, counted from 1, or as the last one. The place that it has now."""
        self.trial(number)
        with self._order() as order:
            (moved,) = (trial for trial in order if trial["number"] == number)
            order.remove(moved)
            order.insert(max(0, place - 1), moved)
            return order.index(moved) + 1

    def drop(self, number: int) -> Trial:
        """Take a trial out of the order, with how it ended. What it made stays. InputError E402 where it is running."""
        trial = self.trial(number)
        if trial.state == "running":
            raise wrong_input("E402", f"trial {number} is running", help="stop its worker first, by Ctrl-C")
        with self._order() as order:
            order[:] = [found for found in order if found["number"] != number]
            trial.retry()
        return trial

    def _listed(self) -> list[dict[str, Any]]:
        """What order.json says; nothing before the first trial. InputError E401 where it is there and is no order."""
        path = self.path / ORDER
        if not path.exists():
            return []
        found = (read_json(path) or {}).get(TRIALS)
        if not isinstance(found, list) or any(not isinstance(it, dict) or set(it) != _OF_A_TRIAL for it in found):
            help_ = (
                "remove this file, and give the command of the sweep again: its trials then get new numbers, "
                "and what they have finished is not run again"
            )
            raise wrong_input("E401", f"the order of the sweep `{self.path.name}` cannot be read: {path}", help=help_)
        return found

    def _numbers(self) -> Iterator[int]:
        """Of the trials that were ever in it, as far as their folders are there."""
        return (int(path.stem) for path in (self.path / TRIALS).glob("*") if path.stem.isdecimal())

    def _trial(self, number: int, settings: Sequence[str], run: str) -> Trial:
        return Trial(folder=self.path / TRIALS / f"{number:04d}", number=number, settings=settings, run=run)

    @contextmanager
    def _order(self) -> Iterator[list[dict[str, Any]]]:
        """The list of trials, to be changed while the sweep's lease is held; written back whole."""
        with lease(self.path, what=f"the order of the sweep {self.path.name}", wait=ORDER_SECONDS):
            order = self._listed()
            yield order
            write_json(self.path / ORDER, {TRIALS: order})


def in_words(states: Sequence[str]) -> str:
    """3 done, 1 failed, 2 waiting"""
    return ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states) or "no trials"


def removed_in_words(number: int) -> str:
    """1 run was removed, 2 runs were removed"""
    return f"{counted(number, 'run')} {'was' if number == 1 else 'were'} removed"


def check_sweep(name: str, about: Mapping[str, Any]) -> Sweep:
    """The sweep of this name, which need not be there. InputError E407 where it is no name, or another sweep has it."""
    if not is_name(name):
        message = f"--name {name}: a sweep cannot be called that"
        raise wrong_input("E407", message, help="a name is a folder's: letters, digits, - and _")
    sweep = Sweep(sweeps_dir() / name)
    there = sweep.about
    if there and any(there.get(key) != value for key, value in about.items()):
        differs = ", ".join(key for key, value in about.items() if there.get(key) != value)
        message = f"there is a sweep `{name}` already, with another {differs}"
        raise wrong_input("E407", message, help="give this one a --name of its own, or remove that one's folder")
    return sweep


def make_sweep(name: str, **about: Any) -> Sweep:
    """A sweep of this name, new or as it is. InputError as `check_sweep`."""
    sweep = check_sweep(name, about)
    if not sweep.about:
        sweep.path.mkdir(parents=True, exist_ok=True)
        write_json(sweep.path / SWEEP, about)
    return sweep


def sweeps_dir() -> Path:
    """Where sweeps are kept."""
    return home() / "sweeps"


def list_sweeps(folder: Path | None = None) -> list[Sweep]:
    """Every sweep in a folder, by default that of this home, the newest first."""
    return [Sweep(path.parent) for path in sorted((folder or sweeps_dir()).glob(f"*/{SWEEP}"), key=_age)]


def needing(run: RunFolder) -> Iterator[tuple[Sweep, Trial]]:
    """The trials whose run it is, of the sweeps beside it; of a sweep whose order cannot be read nothing is known."""
    for sweep in list_sweeps(run.path.parent.with_name("sweeps")):
        with suppress(InputError):
            yield from ((sweep, trial) for trial in sweep.trials() if trial.run == run.path.name)


def find_sweep(name: str) -> Sweep:
    """InputError E405 where there is none of this name."""
    known = {sweep.path.name: sweep for sweep in list_sweeps()}
    if name not in known:
        near = did_you_mean(name, known) or f"the sweeps there are: {', '.join(known) or 'none'}"
        raise wrong_input("E405", f"there is no sweep `{name}`", help=near)
    return known[name]


def _key(setting: str) -> str:
    return setting.partition("=")[0]


def _age(path: Path) -> float:
    return -path.stat().st_mtime
