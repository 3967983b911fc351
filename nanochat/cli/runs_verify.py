"""`nanochat runs verify`: every file of every checkpoint against its manifest; what is broken is named.

In: the store, or the runs, stages and checkpoints that are named. Out: a line for each checkpoint that is broken, and
exit code 1 where there is one. Nothing is changed: a run that goes on sets a broken checkpoint aside by itself.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import click

from nanochat.cli.status_line import StatusLine
from nanochat.errors import EXIT_STAGE_FAILED
from nanochat.quantity import size
from nanochat.running.find import find_checkpoints
from nanochat.training.manifest import faults, sizes


@attrs.frozen(kw_only=True)
class Verified:
    """What was found of one checkpoint."""

    path: Path
    bytes: int
    """What its manifest says that it takes."""
    faults: Sequence[str]


@click.command("verify")
@click.argument("names", metavar="[RUN|STAGE|CHECKPOINT]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(names: Sequence[str], as_json: bool) -> None:
    """Check the checkpoints' files by size and digest.

    Without a name, all that the store has; else those of a run, RUN/STAGE, a folder of the store, or one checkpoint's
    own folder. Exit code 1 where one is broken.
    """
    found = find_checkpoints(names)
    with StatusLine() as status:
        results = []
        for verified in _verified(found, status):
            results.append(verified)
            if verified.faults and not as_json:
                status.say(click.style("broken", fg="red") + f"  {verified.path}")
                for fault in verified.faults:
                    status.say(f"        {fault}")
    broken = sum(bool(verified.faults) for verified in results)
    if as_json:
        click.echo(json.dumps([_plain(verified) for verified in results], indent=2, ensure_ascii=False))
    else:
        click.echo(_summary(results, broken))
    if broken:
        raise SystemExit(EXIT_STAGE_FAILED)


def _verified(checkpoints: Sequence[Path], status: StatusLine) -> Iterator[Verified]:
    expected = [sizes(checkpoint) for checkpoint in checkpoints]
    total, done = sum(sum(files.values()) for files in expected), 0
    for number, (checkpoint, files) in enumerate(zip(checkpoints, expected, strict=True), start=1):
        before = done

        def seen(name: str, checkpoint: Path = checkpoint, files: Any = files, number: int = number) -> None:
            nonlocal done
            where = f"{checkpoint.parent.parent.name}/{checkpoint.name}/{name}"
            status.show(f"{number} of {len(checkpoints)}, {size(done)} of {size(total)}: {where}")
            done += files.get(name, 0)

        yield Verified(path=checkpoint, bytes=sum(files.values()), faults=list(faults(checkpoint, seen=seen)))
        done = before + sum(files.values())


def _summary(results: Sequence[Verified], broken: int) -> str:
    if not results:
        return "no checkpoints there"
    whole = f"{len(results)} checkpoint{'s' if len(results) > 1 else ''}, {size(sum(found.bytes for found in results))}"
    if not broken:
        return f"{whole}: all as they were written"
    return f"{whole}: {broken} broken, which a stage that goes on passes over"


def _plain(verified: Verified) -> dict[str, Any]:
    state = "broken" if verified.faults else "ok"
    return {"checkpoint": str(verified.path), "state": state, "bytes": verified.bytes, "faults": list(verified.faults)}
