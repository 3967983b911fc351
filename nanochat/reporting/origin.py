"""Where a run came from, and what it differs in from the run before.

In: a run. Out: blocks. The run before is the one that its recipe was branched from, else the recipe's newest that was
started before. A trial of a sweep is compared with the sweep's first variant: whichever trial ended before it differs
in its seed and in its variant at once.
"""

import shlex
from collections.abc import Mapping
from typing import Any

from nanochat.errors import NanochatError
from nanochat.quantity import size
from nanochat.recipe.diff import Difference, diff
from nanochat.recipe.diff_text import ratio_text, value_texts
from nanochat.reporting.document import Block, Facts, Table, Text
from nanochat.reporting.subject import Subject
from nanochat.reporting.swept_trial import SweptTrial, swept_trial
from nanochat.running.find import list_runs
from nanochat.running.run_folder import LOCK, RunFolder
from nanochat.running.side import run_side
from nanochat.running.source_tree import described

_SHOWN_PACKAGES = ("torch", "numpy", "nanochat-run", "nanochat-plugins")
_SHOWN_DIFFERENCES = 60
_LONGEST = 80
_BEFORE = "the run of this recipe before it"
_BRANCHED = "the run that it was branched from"


def provenance_blocks(environment: Mapping[str, Any]) -> list[Block]:
    """Code, packages, machine, command."""
    if not environment:
        return []
    machine, packages = (environment.get(part) or {} for part in ("machine", "packages"))
    versions = ", ".join(f"{name} {packages[name]}" for name in _SHOWN_PACKAGES if name in packages)
    plugins = [p for p in environment.get("plugins", []) if p.get("status") == "ok"]
    gpus = environment.get("gpus") or []
    devices = f"{machine.get('cuda_devices', 0)} CUDA devices" + (f" ({gpus[0]})" if gpus else "")
    trees = [
        (f"commit of {' and '.join(tree['holds'])}", described(tree)) for tree in environment.get("source_trees", ())
    ]
    pairs = [
        *trees,
        ("packages", f"{versions}; {len(packages)} are installed"),
        ("plugins", ", ".join(f"{plugin['name']} {plugin['version']}".strip() for plugin in plugins)),
        ("python", f"{str(environment.get('python', '')).split(' ')[0]} on {environment.get('platform')}"),
        ("machine", f"{machine.get('cpu_cores')} CPU cores, {size(machine.get('memory_bytes', 0))}, {devices}"),
        ("command", shlex.join(environment.get("argv", []))),
        ("last started", f"{environment.get('time')} by {environment.get('user')} on {environment.get('host')}"),
    ]
    return [Facts(pairs=[(what, said) for what, said in pairs if said])]


def code_blocks(environment: Mapping[str, Any]) -> list[Block]:
    """How large the code is that made it."""
    rows = [
        [part["name"], f"{part['files']:,}", f"{part['lines']:,}", str(part.get("dependencies", ""))]
        for part in environment.get("code", ())
    ]
    return [Table(titles=("code", "files", "lines", "direct dependencies"), rows=rows)] if rows else []


def parent_blocks(subject: Subject) -> list[Block]:
    """What differs from the run that this one is best compared with, and which that is."""
    trial = swept_trial(subject.run)
    if trial is not None:
        return _trial_blocks(subject.run, trial)
    parent = parent_of(subject.run)
    if parent is None:
        return []
    return _compared(parent, subject.run, _BRANCHED if _branched(subject.run) == parent.path.name else _BEFORE)


def _trial_blocks(run: RunFolder, trial: SweptTrial) -> list[Block]:
    """A trial's: from the first variant with its seed. A trial of that one is what others are compared with."""
    said = f"It is a trial of the sweep {trial.sweep.path.name}: {trial.trial.name}."
    reference = trial.reference
    if trial.is_of_the_first:
        return [Text(text=f"{said} The sweep's other variants are compared with this one.")]
    if reference is None:
        return [Text(text=f"{said} It is not compared: the sweep's first variant has no trial of this seed.")]
    there = RunFolder(run.path.parent / reference.run)
    if reference.state != "done" or not (there.path / LOCK).is_file():
        return [Text(text=f"{said} It is not compared: the trial {reference.name} is not done, or was removed.")]
    return [Text(text=said), *_compared(there, run, f"the sweep's first variant with the same seed: {reference.name}")]


def _compared(before: RunFolder, now: RunFolder, which: str) -> list[Block]:
    name = before.path.name
    try:
        found = diff([run_side(before), run_side(now)])
    except (NanochatError, OSError, KeyError) as fault:
        return [Text(text=f"It cannot be compared with {name}, {which}: {fault}")]
    if not found:
        return [Text(text=f"Nothing differs from {name}, {which}.")]
    more = len(found) - _SHOWN_DIFFERENCES
    blocks: list[Block] = [Text(text=f"Compared with {name}, {which}.")]
    titles = ("what", "key", name, now.path.name, "apart")
    blocks.append(Table(titles=titles, rows=[_row(one) for one in found[:_SHOWN_DIFFERENCES]], words=5))
    if more > 0:
        blocks.append(Text(text=f"And {more} more: nanochat diff {name} {now.path.name}"))
    return blocks


def _branched(run: RunFolder) -> str:
    """What the lock says as `parent`."""
    return str(run.lock.get("parent", ""))


def parent_of(run: RunFolder) -> RunFolder | None:
    """The run that this one's recipe was branched from; else the newest of the same recipe that was started before."""
    own = _branched(run)
    if own and (run.path.parent / own / LOCK).is_file():
        return RunFolder(run.path.parent / own)
    recipe, started = run.plan.get("recipe"), str(run.environment.get("time", ""))
    before = [other for other in list_runs(run.path.parent) if other.path.name != run.path.name]
    named = [(str(other.environment.get("time", "")), other) for other in before if other.plan.get("recipe") == recipe]
    earlier = [found for found in named if found[0] and found[0] < started]
    return max(earlier, key=lambda found: found[0])[1] if earlier else None


def _row(one: Difference) -> list[str]:
    ratio = ratio_text(one)
    apart = f"× {ratio}" if ratio else ""
    if one.deviations is not None:
        apart = f"{one.deviations:.1f} standard errors"
    return [one.group, one.key, *(_cut(text) for text in value_texts(one)), apart]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
