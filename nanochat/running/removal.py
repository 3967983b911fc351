"""Removing runs and results that nobody needs any more: `nanochat runs rm` and `nanochat runs gc`.

In: the runs to remove, or a store to clear up. Out: first what would go, what stays and why; then, once somebody has
agreed, its removal. What is worked on is never touched, and no moment of a removal looks like a finished result.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs

from nanochat.durable import delete
from nanochat.errors import wrong_input
from nanochat.home import runs_dir
from nanochat.running.find import list_runs
from nanochat.running.lease import FILE as LEASE
from nanochat.running.lease import is_held, lease
from nanochat.running.references import Referrers, referrers, with_inputs
from nanochat.running.run_folder import PLAN, RunFolder
from nanochat.running.store import CHECKPOINTS, CONFIG, OLD, RECORD, StageFolder, Store, bytes_in, discard, is_result

_LEFTOVERS = {
    "broken_*": "a damaged checkpoint that was set aside",
    ".writing_*": "a checkpoint that was cut off",
    ".pruned_*": "an old checkpoint whose removal was cut off",
}


@attrs.frozen(kw_only=True)
class Removal:
    """What goes with some runs."""

    runs: tuple[RunFolder, ...]
    results: tuple[StageFolder, ...]
    kept: Mapping[Path, Sequence[str]]
    """Results of these runs that stay → who refers to them."""


def plan_removal(runs: Sequence[RunFolder]) -> Removal:
    """What nothing else refers to once these runs are gone. InputError E407 where they lie in different homes."""
    if len({run.path.parent for run in runs}) > 1:
        places = " and ".join(sorted({str(run.path.parent) for run in runs}))
        raise wrong_input("E407", f"these runs lie in {places}", help="remove those of one folder at a time")
    results = list(runs[0].store)
    going = {run.path for run in runs}
    staying = [run for run in list_runs(runs[0].path.parent) if run.path.resolve() not in going]
    theirs = {stage.folder.key for run in runs for stage in run.stages}
    roots: Referrers = {result.key: [] for result in results if result.key not in theirs}
    needed = with_inputs(roots | referrers(staying, results), results)
    return Removal(
        runs=tuple(runs),
        results=tuple(result for result in results if result.key not in needed),
        kept={result.path: needed[result.key] for result in results if result.key in theirs & needed.keys()},
    )


@contextmanager
def undisturbed(removal: Removal) -> Iterator[None]:
    """Nobody works on what is to be removed. InputError E402 where somebody does."""
    with ExitStack() as held:
        for run in removal.runs:
            held.enter_context(lease(run.path, what=f"the run {run.path.name}"))
        for result in removal.results:
            held.enter_context(lease(result.path, what=f"the stage of {result.path.name}"))
        yield


def remove(removal: Removal) -> int:
    """Remove runs and results; the bytes that were freed. InputError E402, before anything is touched.

    The results go first: interrupted, the run is still there to be removed by the same command.
    """
    with undisturbed(removal):
        still = plan_removal(removal.runs).results  # a run may have come since somebody was asked
        freed = 0
        for result in (result for result in removal.results if result in still):
            freed += discard(result.path, RECORD)
            removal.runs[0].store.drop_set_aside(result)
        return freed + sum(discard(run.path, PLAN) for run in removal.runs)


@attrs.frozen(kw_only=True)
class Garbage:
    """A folder that nothing needs."""

    path: Path
    reason: str
    worked_in: Path | None = None
    """The folder whose lease says that nobody works there."""
    marker: str = RECORD

    def remove(self) -> int | None:
        """Delete it; the bytes that were freed, None where something needs it by now. InputError E402 where somebody
        works there by now.
        """
        with ExitStack() as held:
            if self.worked_in is not None:
                held.enter_context(lease(self.worked_in, what=f"the stage of {self.worked_in.name}"))
            still = {garbage.path for garbage in find_garbage(ours=self.worked_in)}  # a run may have come
            if self.path not in still:
                return None
            return discard(self.path, self.marker) if self.worked_in == self.path else _delete(self.path)


def find_garbage(*, ours: Path | None = None) -> list[Garbage]:
    """Everything in this home that no run refers to and nobody works on. `ours`: a folder whose lease we hold."""
    store = Store()
    results = list(store)
    held = {path for path in _leased(store) if path != ours and is_held(path)}
    worked_on = {result.key: ["somebody works on it"] for result in results if result.path in held}
    needed = with_inputs(worked_on | referrers(list_runs(), results), results)
    unneeded = [result for result in results if result.key not in needed]
    return [
        *(Garbage(path=r.path, reason="no run refers to it", worked_in=r.path) for r in unneeded),
        *(g for r in results if r not in unneeded and r.path not in held for g in _leftovers(r)),
        *_empty_results(store, held),
        *_set_aside(store),
        *_broken_runs(held),
    ]


def _leased(store: Store) -> list[Path]:
    """Every folder that somebody may have begun to work in."""
    return [path.parent for root in (store.root, runs_dir()) for path in root.glob(f"*/{LEASE}")]


def _leftovers(result: StageFolder) -> Iterator[Garbage]:
    for pattern, reason in _LEFTOVERS.items():
        for path in sorted((result.path / CHECKPOINTS).glob(pattern)):
            yield Garbage(path=path, reason=reason, worked_in=result.path)


def _empty_results(store: Store, held: Collection[Path]) -> Iterator[Garbage]:
    for path in sorted(store.root.glob("*-*")):
        if is_result(path) and not (path / CONFIG).is_file() and path not in held:
            yield Garbage(path=path, reason="it holds no result", worked_in=path)


def _set_aside(store: Store) -> Iterator[Garbage]:
    """What was set aside, unless the new result is not there yet: then the old one can still be put back."""
    awaited = [stage.folder.key for run in list_runs() for stage in run.stages if stage.folder.record is None]
    for path in sorted((store.root / OLD).glob("*")):
        key = path.name.rpartition(".")[0].rpartition("-")[2]
        if not any(other.startswith(key) for other in awaited):
            yield Garbage(path=path, reason="set aside, and not needed any more")
    for path in sorted((runs_dir() / OLD).glob("*")):
        yield Garbage(path=path, reason="a removal that was cut off")


def _broken_runs(held: Collection[Path]) -> Iterator[Garbage]:
    for path in sorted(runs_dir().glob("*")):
        if (path / LEASE).is_file() and not (path / PLAN).exists() and path not in held:
            yield Garbage(path=path, reason="a run without a plan", worked_in=path, marker=PLAN)


def _delete(path: Path) -> int:
    freed = bytes_in(path)
    delete(path)
    return freed
