"""The data sets of a recipe: every source that its stages read, and the files of those that fetch theirs.

In: a resolved recipe. Out: sources, each once, with the places in the recipe that read it; their files fetched or
verified, several at a time. Not here: reading documents, and what is printed.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from nanochat.config import Component
from nanochat.data.background import in_background
from nanochat.data.remote import RemoteSource
from nanochat.data.source import Shard, Source, Split
from nanochat.errors import Diagnostic, NanochatError, Stopped, did_you_mean, wrong_input
from nanochat.recipe.resolved import Recipe
from nanochat.registry import Registry
from nanochat.running.home import disk_failure, is_disk_fault

SPLITS: tuple[Split, ...] = ("train", "validation")


@attrs.frozen(kw_only=True)
class Dataset:
    """A source, and who reads it."""

    names: Sequence[str]
    """STAGE.NAME, as in [stages.STAGE.data.NAME]."""
    use: str
    config: Any
    source: Source

    @property
    def remote(self) -> RemoteSource | None:
        """The source, where it fetches its shards."""
        return self.source if isinstance(self.source, RemoteSource) else None


@attrs.frozen(kw_only=True)
class DataFile:
    """A file that a source fetches."""

    source: RemoteSource
    shard: Shard
    place: Path

    @property
    def is_here(self) -> bool:
        """Whether it is whole, by its size."""
        return self.source.state(self.shard).here


def datasets(recipe: Recipe, registry: Registry, *, only: str | None = None) -> list[Dataset]:
    """The sources of a recipe, or of `only` a stage, or STAGE.NAME alone. InputError E405 where there are none."""
    found = {f"{stage.name}.{part.name}": part for stage in recipe.stages.values() for part in _sources(stage.config)}
    chosen = {name: part for name, part in found.items() if only in (None, name, name.partition(".")[0])}
    if not chosen:
        near = did_you_mean(only or "", [*found, *recipe.stages]) or f"its sources: {', '.join(found) or 'none'}"
        what = f"no source or stage with sources `{only}`" if only else "no stage with a source"
        raise wrong_input("E405", f"{recipe.name} has {what}", help=near)
    merged: list[tuple[Component, list[str]]] = []
    for name, part in chosen.items():
        same = [names for known, names in merged if (known.use, known.config) == (part.use, part.config)]
        if same:
            same[0].append(name)
        else:
            merged.append((part, [name]))
    return [
        Dataset(names=names, use=part.use, config=part.config, source=registry.builder("source", part.use)(part.config))
        for part, names in merged
    ]


def ask_all(found: Sequence[Dataset], *, seconds: float) -> dict[str, Sequence[Diagnostic]]:
    """Have every source that asks a hub know its shards, all at once; of those that cannot so soon, first name → why.

    A source that has not answered goes on asking in the background, as long as the process lives.
    """
    asked = {
        dataset.names[0]: in_background(partial(_list, dataset)) for dataset in found if dataset.remote is not None
    }
    futures.wait(asked.values(), seconds)
    return {name: faults for name, answer in asked.items() if (faults := _faults(name, answer, seconds))}


def _list(dataset: Dataset) -> None:
    """Ask for the shards of both splits."""
    for split in SPLITS:
        dataset.source.shards(split)


def _faults(name: str, answer: futures.Future[None], seconds: float) -> Sequence[Diagnostic]:
    if not answer.done():
        what = f"{name} is not listed: its hub did not tell within {seconds:g} s what the data set holds"
        advice = "check the network, and HF_ENDPOINT if it is set; `nanochat data get RECIPE` asks for longer"
        return [Diagnostic(code="E301", message=what, help=advice)]
    try:
        answer.result()
    except NanochatError as fault:
        return fault.diagnostics
    return []


def data_files(found: Sequence[Dataset]) -> list[DataFile]:
    """The files of all splits, each once, in the order in which they are read, those for validation first."""
    files: dict[Path, DataFile] = {}
    for split in reversed(SPLITS):
        for source in (dataset.remote for dataset in found if dataset.remote is not None):
            for shard in source.shards(split):
                place = source.place(shard)
                files.setdefault(place, DataFile(source=source, shard=shard, place=place))
    return list(files.values())


def fetch_all(
    files: Sequence[DataFile],
    *,
    workers: int,
    on_bytes: Callable[[int], None],
    on_done: Callable[[DataFile], None],
) -> list[Diagnostic]:
    """Fetch files, `workers` at a time; what failed. A fault ends its own file alone; an interrupt ends all."""
    stop = threading.Event()

    def told(n_bytes: int) -> None:
        if stop.is_set():
            raise Stopped
        on_bytes(n_bytes)

    return _each(files, lambda file: file.source.fetch(file.shard, told), workers=workers, on_done=on_done, stop=stop)


def verify_all(files: Sequence[DataFile], *, workers: int, on_done: Callable[[DataFile], None]) -> list[Diagnostic]:
    """Read all files and compare them with what was pinned; what is damaged or missing."""

    def verify(file: DataFile) -> None:
        if not file.place.exists():
            raise wrong_input("E301", f"{file.place} is not here", help="nanochat data get RECIPE")
        file.source.check(file.shard)

    return _each(files, verify, workers=workers, on_done=on_done, stop=threading.Event())


def _each(
    files: Sequence[DataFile],
    act: Callable[[DataFile], None],
    *,
    workers: int,
    on_done: Callable[[DataFile], None],
    stop: threading.Event,
) -> list[Diagnostic]:
    faults: list[Diagnostic] = []
    with futures.ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(act, file): file for file in files}
        try:
            for ended in futures.as_completed(running):
                try:
                    ended.result()
                except NanochatError as fault:
                    faults += fault.diagnostics
                except OSError as fault:
                    faults += _disk_fault(running[ended], fault)
                else:
                    on_done(running[ended])
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return faults


def _disk_fault(file: DataFile, fault: OSError) -> Sequence[Diagnostic]:
    """What the disk said of one file."""
    if is_disk_fault(fault):
        return disk_failure(file.place, fault).diagnostics
    reason = fault.strerror or str(fault) or type(fault).__name__
    where = f" ({fault.filename})" if fault.filename not in (None, str(file.place)) else ""
    return [
        Diagnostic(
            code="E304",
            message=f"{file.place} cannot be read or written: {reason}{where}",
            help="mend what the system says of the disk or the path; then the same command goes on",
        )
    ]


def _sources(config: Any) -> Iterator[Component]:
    """Every source in a stage's config."""
    if isinstance(config, Component):
        if config.kind == "source":
            yield config
        yield from _sources(config.config)
    elif isinstance(config, Mapping):
        for value in config.values():
            yield from _sources(value)
    elif attrs.has(type(config)):
        for field in attrs.fields(type(config)):
            yield from _sources(getattr(config, field.name))
