"""Who refers to a result of the store: runs by their plans and locks, other results by their inputs.

In: runs, and the results of their store. Out: key → who refers to it, in words. What removes results asks here first.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nanochat.running.json_file import read_json
from nanochat.running.run_folder import RunFolder
from nanochat.running.store import CONFIG, StageFolder

Referrers = dict[str, list[str]]


def referrers(runs: Iterable[RunFolder], results: Sequence[StageFolder]) -> Referrers:
    """Key → the runs that plan it, or whose lock names it by `store:`, `path:` or as a path to data."""
    found: Referrers = {}
    for run in runs:
        keys = {stage.folder.key for stage in run.stages}
        keys |= {result.key for text in _texts(run.lock) for result in results if _names(text, result)}
        for key in keys:
            found.setdefault(key, []).append(f"run {run.path.name}")
    return found


def with_inputs(roots: Mapping[str, Sequence[str]], results: Iterable[StageFolder]) -> Referrers:
    """The roots, and all that they were made from: the inputs of what is kept are kept."""
    by_key = {result.key: result for result in results}
    found = {key: list(names) for key, names in roots.items()}
    waiting = [key for key in found if key in by_key]
    while waiting:
        result = by_key[waiting.pop()]
        for key in inputs_of(result):
            if key in by_key and key not in found:
                waiting.append(key)
            found.setdefault(key, []).append(f"result {result.path.name}")
    return found


def inputs_of(result: StageFolder) -> set[str]:
    """The keys that a result was made from."""
    inputs = (read_json(result.path / CONFIG) or {}).get("inputs")
    return {key for key in inputs.values() if isinstance(key, str)} if isinstance(inputs, dict) else set()


def _texts(value: Any) -> Iterator[str]:
    """Every string in a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _names(text: str, result: StageFolder) -> bool:
    """Whether a value of a lock, where paths are absolute and keys whole, leads to a result."""
    if text.startswith("store:"):
        return text == f"store:{result.key}"
    path = text.removeprefix("path:")
    return path.startswith("/") and Path(path).resolve().is_relative_to(result.path.resolve())
