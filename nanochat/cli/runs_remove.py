"""`nanochat runs rm RUN…` and `nanochat runs gc`: remove what nobody needs, after saying what and asking."""

import json
import sys
from collections.abc import Sequence

import click

from nanochat.cli.sheet import print_table, print_text
from nanochat.errors import InputError, wrong_input
from nanochat.quantity import size
from nanochat.running.find import the_run
from nanochat.running.removal import Garbage, find_garbage, plan_removal, remove, undisturbed
from nanochat.running.store import bytes_in
from nanochat.sweeping.sweep import needing

NAMED = 3
"""Of the runs that need a result; --json has them all."""

_dry_run = click.option("--dry-run", is_flag=True, help="Only list what would go.")
_as_json = click.option("--json", "as_json", is_flag=True, help="With --dry-run: print the list as JSON.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command("rm")
@click.argument("runs", nargs=-1, required=True, metavar="RUN…")
@_dry_run
@_as_json
@_yes
def rm(runs: tuple[str, ...], dry_run: bool, as_json: bool, yes: bool) -> None:
    """Remove runs, and results that only they need.

    A result stays where another run plans it, a lock names it, or a result that stays was made from it. A run that
    trials of sweeps stand for is removed with their figures, which is said before.
    """
    _check_json(as_json, dry_run, "rm RUN")
    removal = plan_removal(list(dict.fromkeys(the_run(name) for name in runs)))
    with undisturbed(removal):  # a run that is going on is refused before anybody is asked
        pass
    if as_json:
        gone = [result.path for result in removal.results] + [run.path for run in removal.runs]
        kept = {str(path): list(dict.fromkeys(names)) for path, names in removal.kept.items()}
        removed = [{"path": str(path), "bytes": bytes_in(path)} for path in gone]
        trials = {
            str(run.path): [{"sweep": sweep.path.name, "trial": trial.number} for sweep, trial in needing(run)]
            for run in removal.runs
        }
        told = {"remove": removed, "keep": kept, "trials": trials}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    for result in removal.results:
        click.echo(f"remove {result.path.name}, {size(bytes_in(result.path))}")
    for path, names in removal.kept.items():
        click.echo(f"keep   {path.name}: needed by {_some(list(dict.fromkeys(names)))}")
    for run in removal.runs:
        click.echo(f"remove run {run.path.name}")
        for sweep, trial in needing(run):
            again = f"nanochat sweeps retry {sweep.path.name} {trial.number}"
            its = f"trial {trial.number} of the sweep {sweep.path.name}, {trial.name}"
            print_text(f"it is {its}, whose means then lack it; `{again}` lets it run again", indent="  ")
    if dry_run:
        going = [gone.path for gone in removal.results] + [run.path for run in removal.runs]
        click.echo(f"{size(sum(bytes_in(path) for path in going))} would be freed")
    elif _agreed(yes):
        click.echo(f"removed; {size(remove(removal))} freed")


def _some(names: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


@click.command("gc")
@_dry_run
@_as_json
@_yes
def gc(dry_run: bool, as_json: bool, yes: bool) -> None:
    """Remove what no run refers to, and leftovers.

    Results that no run refers to, results that were set aside and replaced, damaged and cut-off checkpoints.
    """
    _check_json(as_json, dry_run, "gc")
    found = [(garbage, bytes_in(garbage.path)) for garbage in find_garbage()]
    if as_json:
        rows = [{"path": str(g.path), "reason": g.reason, "bytes": count} for g, count in found]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not found:
        click.echo("nothing to remove")
        return
    print_table(["folder", "size", "why"], [[str(g.path), size(count), g.reason] for g, count in found])
    if dry_run:
        click.echo(f"{size(sum(count for _, count in found))} would be freed")
        return
    if _agreed(yes):
        click.echo(f"removed; {size(sum(_removed(garbage) for garbage, _ in found))} freed")


def _check_json(as_json: bool, dry_run: bool, command: str) -> None:
    if as_json and not dry_run:
        raise wrong_input("E407", "--json lists what would go", help=f"nanochat runs {command} --dry-run --json")


def _removed(garbage: Garbage) -> int:
    """Remove one folder, or say why it stays; the bytes that were freed. One that is in use keeps no other."""
    try:
        freed = garbage.remove()
    except InputError as busy:
        click.echo(f"kept {garbage.path.name}: {busy.diagnostics[0].message}")
        return 0
    if freed is None:
        click.echo(f"kept {garbage.path.name}: it is needed now, or gone")
    return freed or 0


def _agreed(yes: bool) -> bool:
    """Whether a person, or --yes, agrees. InputError E407 where nobody can be asked."""
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise wrong_input("E407", "nothing is removed unasked", help="say --yes, or run it on a terminal")
    agreed = click.confirm("Remove?")
    if not agreed:
        click.echo("nothing removed")
    return agreed
