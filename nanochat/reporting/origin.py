"""Where a run came from, and what it differs in from the run before.

In: a run. Out: blocks.
"""

import shlex
from collections.abc import Mapping
from typing import Any

from nanochat.errors import NanochatError
from nanochat.quantity import size
from nanochat.recipe.diff import Difference, diff
from nanochat.recipe.notation import value_text
from nanochat.reporting.document import Block, Facts, Table, Text
from nanochat.reporting.subject import Subject
from nanochat.running.find import list_runs
from nanochat.running.run_folder import LOCK, RunFolder
from nanochat.running.side import run_side
from nanochat.running.source_tree import described

_SHOWN_PACKAGES = ("torch", "numpy", "nanochat-run", "nanochat-plugins")
_SHOWN_DIFFERENCES = 60
_LONGEST = 80
_BEFORE = "the run of this recipe before it"


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
    """What differs from the run of this recipe that came before."""
    parent = parent_of(subject.run)
    if parent is None:
        return []
    try:
        found = diff([run_side(parent), run_side(subject.run)])
    except (NanochatError, OSError, KeyError) as fault:
        return [Text(text=f"The run before is {parent.path.name}; it cannot be compared: {fault}")]
    if not found:
        return [Text(text=f"Nothing differs from the run before, {parent.path.name}.")]
    more = len(found) - _SHOWN_DIFFERENCES
    how = "the run that it was branched from" if _branched(subject.run) == parent.path.name else _BEFORE
    blocks: list[Block] = [Text(text=f"Compared with {parent.path.name}, {how}.")]
    titles = ("what", "key", "before", "now", "apart")
    blocks.append(Table(titles=titles, rows=[_row(one) for one in found[:_SHOWN_DIFFERENCES]], words=5))
    if more > 0:
        blocks.append(Text(text=f"And {more} more: nanochat diff {parent.path.name} {subject.run.path.name}"))
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
    before, now = (_shown(value) for value in one.values)
    said = f"× {one.ratio:.3g}" if one.ratio is not None else ""
    if one.deviations is not None:
        said = f"{one.deviations:.1f} standard errors"
    return [one.group, one.key, before, now, said]


def _shown(value: Any) -> str:
    if value is None:
        return "not there"
    text = f"{value:.5g}" if isinstance(value, float) else value_text(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
