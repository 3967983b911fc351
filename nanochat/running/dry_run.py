"""What `--dry-run` shows: the command lines of each stage to do, on each node, and the script that a scheduler gets.

In: planned stages. Out: lines of text. Nothing is written or started. A stage that is blocked here is shown as it is
started where it is not.
"""

import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nanochat.running.launcher import Launch, Launcher, OnEachNode, Scheduled
from nanochat.running.plan import PlannedStage

_INDENT = "    "


def dry_run_lines(
    run: Path, stages: Sequence[PlannedStage], worker: Callable[[Path, PlannedStage], list[str]]
) -> Iterator[str]:
    """worker: the command line of one worker process of a stage."""
    for planned in stages:
        elsewhere = "; where it is not:" if planned.action == "blocked" else ""
        yield f"{planned.name}: {planned.action} ({planned.why}){elsewhere}"
        launcher = planned.launcher
        if launcher is None:
            continue
        for title, rank in _nodes(planned):
            launch = Launch(
                worker=worker(run, planned),
                stage=planned.name,
                run=run,
                folder=planned.folder.path,
                attempt=f"{planned.name}-ATTEMPT",
                node_rank=rank,
                shown=True,
            )
            if isinstance(launcher, Scheduled):
                yield f"{_INDENT}the script that is submitted:"
                yield launcher.script(launch)
            else:
                yield f"{_INDENT}{title}{_line(launcher, launch)}"


def _nodes(planned: PlannedStage) -> list[tuple[str, int | None]]:
    """What to say before a node's line, and its rank."""
    hardware = planned.stage.hardware
    if hardware.nodes == 1 or not isinstance(planned.launcher, OnEachNode):
        return [("", 0)]
    own = ", with its own --local-addr" if hardware.network_interface else ""
    if hardware.rendezvous_backend == "static" or hardware.nodes == 2:
        return [(f"node {rank}{own}: ", rank) for rank in range(hardware.nodes)]
    return [(f"the first node{own}: ", 0), (f"each of the other {hardware.nodes - 1}{own}: ", None)]


def _line(launcher: Launcher, launch: Launch) -> str:
    settings = [f"{name}={value}" for name, value in launcher.environment().items()]
    return " ".join([*settings, *(shlex.quote(word) for word in launcher.command(launch))])
