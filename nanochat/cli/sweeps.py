"""`nanochat sweeps`: what sweeps there are, how they stand, what came out; its commands change what comes next."""

import json
import shlex
import sys
from typing import Any

import attrs
import click

from nanochat.cli.sheet import print_table, print_text
from nanochat.cli.sweep_run import run_sweep, said_of_removed
from nanochat.cli.sweeps_laws import command as laws
from nanochat.errors import InputError, wrong_input
from nanochat.markdown import table
from nanochat.running.progress import make_display
from nanochat.sweeping.columns import resolved
from nanochat.sweeping.results import Row, compared, figure_names, find_reference, over_seeds, rows, sorted_by
from nanochat.sweeping.results_text import DIFFERENCES_NOTE, MEANS_NOTE, rows_table, told_apart
from nanochat.sweeping.sweep import STATES, Sweep, Trial, find_sweep, in_words, list_sweeps, removed_in_words

_quiet = click.option("-q", "--quiet", is_flag=True, help="Show warnings and errors alone.")


@click.group("sweeps", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@click.pass_context
def command(context: click.Context, /, as_json: bool) -> None:
    """List the sweeps, newest first."""
    if context.invoked_subcommand is not None:
        if as_json:
            context.fail("--json here prints the list; of a command it comes after it")
        return
    found = list_sweeps()
    if as_json:
        click.echo(json.dumps([_told(sweep) for sweep in found], indent=2, ensure_ascii=False))
        return
    if not found:
        click.echo("no sweeps yet; the first: nanochat sweep recipes/quickstart.toml --grid seed=1,2,3")
        return
    print_table(
        ["sweep", "recipe", "trials"], [[s.path.name, str(s.about.get("recipe", "")), _counts(s)] for s in found]
    )


def _told(sweep: Sweep) -> dict[str, Any]:
    """A sweep in the list, for programs; `error` where its order cannot be read."""
    told = {"sweep": sweep.path.name, **sweep.about, "folder": str(sweep.path), "paused": sweep.paused}
    try:
        states = [trial.state for trial in sweep.trials()]
    except InputError as fault:
        return {**told, "error": fault.diagnostics[0].message}
    return {**told, "trials": {state: states.count(state) for state in STATES}}


@command.command("show")
@click.argument("name")
@click.option("--sort", metavar="COLUMN", help="By a figure or a key, the least first; -COLUMN: the largest first.")
@click.option("--against", metavar="VALUE", help="Differences from the trials with this value, seed by seed.")
@click.option("--columns", metavar="FIGURE,FIGURE", help="These figures alone.")
@click.option("--trials", "singly", is_flag=True, help="Each trial, not means over seeds.")
@click.option("--all", "everything", is_flag=True, help="Also figures that are the same in all trials.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--md", "as_markdown", is_flag=True, help="Print a Markdown table.")
def show(
    name: str,
    sort: str | None,
    against: str | None,
    columns: str | None,
    singly: bool,
    everything: bool,
    as_json: bool,
    as_markdown: bool,
) -> None:
    """What came out of a sweep: means and their standard errors over seeds, and the trials that run or failed.

    --against current, or --against KEY=VALUE: the mean difference of each figure from the trials that have this value
    and are else alike, paired by seed, with a 95 % interval of Student's t.
    """
    sweep = find_sweep(name)
    found = rows(sweep)
    if singly and against is not None:
        raise wrong_input("E407", "--against compares means over seeds", help="leave out --trials")
    if everything and columns is not None:
        raise wrong_input("E407", "--all shows every figure, and --columns some", help="leave out one of them")
    means = over_seeds(found) if against is None else compared(found, find_reference(found, against))
    shown = found if singly else means + [row for row in found if row.state != "done"]
    if sort is not None:
        known = [*(key for row in shown for key in row.settings), *figure_names(shown)]
        column = resolved(sort.removeprefix("-"), known, "--sort")
        shown = sorted_by(shown, f"-{column}" if sort.startswith("-") else column)
    if columns is not None:
        asked = dict.fromkeys(name.strip() for name in columns.split(","))
        names = [resolved(name, figure_names(shown), "--columns") for name in asked]
        shown = [row.of_figures(names) for row in shown]
    if as_json:
        click.echo(json.dumps([attrs.asdict(row) for row in shown], indent=2, ensure_ascii=False))
        return
    listed = shown if singly else [row for row in shown if row.state != "waiting"]
    told = told_apart([row for row in found if row.state == "done"]) if columns is None else (names, {})
    _print(listed, *told, against or "", everything, as_markdown)
    click.echo(_counts(sweep) + ("; --trials lists each" if len(listed) < len(shown) else ""))


def _print(
    shown: list[Row], differing: list[str], same: dict[str, str], against: str, everything: bool, as_markdown: bool
) -> None:
    """The table, what of it was left out, and what ± is."""
    made = rows_table(shown, [*differing, *same] if everything else differing, against=against)
    if shown and as_markdown:
        click.echo(table(made.titles, made.cells) + "\n")
    elif shown:
        print_table(made.titles, made.cells)
    if same and not everything:
        alike = ", ".join(f"{figure} {text}" for figure, text in same.items())
        print_text(f"The same in all trials: {alike} (--all shows them).")
    if any(row.errors for row in shown):
        print_text(f"{MEANS_NOTE}{f' {DIFFERENCES_NOTE}' if against else ''}")


command.add_command(laws)


@command.command("pause")
@click.argument("name")
def pause(name: str) -> None:
    """Begin no further trial; those that run are finished."""
    sweep = find_sweep(name)
    sweep.pause(paused=True)
    click.echo(f"{name}: {_counts(sweep)}; no further trial is begun until `nanochat sweeps go {name}`")


@command.command("go")
@click.argument("name")
@_quiet
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line.")
def go(name: str, quiet: bool, as_json: bool) -> None:
    """Take a pause back, and work on the sweep in this process."""
    sweep = find_sweep(name)
    sweep.pause(paused=False)
    sys.exit(run_sweep(sweep, make_display(quiet=quiet, as_json=as_json)))


@command.command("retry")
@click.argument("name")
@click.argument("numbers", nargs=-1, type=int, metavar="[TRIAL]...")
def retry(name: str, numbers: tuple[int, ...]) -> None:
    """Let failed trials wait again: these, or all. What their stages finished is kept.

    Of a trial that is done, and is named, where its run was removed.
    """
    sweep = find_sweep(name)
    chosen = [sweep.trial(number) for number in numbers] or sweep.trials()
    again = [trial for trial in chosen if trial.state == "failed" or (numbers and trial.is_removed)]
    for trial in again:
        trial.retry()
    removed = "" if numbers else said_of_removed(sweep)
    go = f"; `nanochat sweeps go {name}` runs them" if any(trial.state == "waiting" for trial in chosen) else ""
    click.echo(f"{len(again)} of {len(chosen)} wait again{go}{removed}")
    for trial in chosen if numbers else []:
        if trial not in again:
            click.echo(_why_not(sweep, trial))


def _why_not(sweep: Sweep, trial: Trial) -> str:
    """Why a trial that was named does not wait again."""
    if trial.state == "done":
        until = f" --until {sweep.until}" if sweep.until else ""
        again = f"nanochat run {shlex.quote(str(trial.recipe))} --fresh STAGE{until}"
        return f"trial {trial.number}, {trial.name}, is done, and its results stay; to make them again: {again}"
    return f"trial {trial.number}, {trial.name}, is {trial.state}: it has not failed"


@command.command("move")
@click.argument("name")
@click.argument("number", type=int, metavar="TRIAL")
@click.argument("place", type=click.IntRange(1), metavar="PLACE")
def move(name: str, number: int, place: int) -> None:
    """Let TRIAL come as number PLACE."""
    sweep = find_sweep(name)
    now = sweep.move(number, place)
    click.echo(f"trial {number}, {sweep.trial(number).name}, comes as {now} of {len(sweep.trials())}")


@command.command("drop")
@click.argument("name")
@click.argument("number", type=int, metavar="TRIAL")
def drop(name: str, number: int) -> None:
    """Take TRIAL out of the sweep; what it made stays in the store."""
    sweep = find_sweep(name)
    dropped = sweep.drop(number)
    left = len(sweep.trials())
    click.echo(f"trial {number}, {dropped.name}, is out of {name}, which has {left} left; what it made stays")


def _counts(sweep: Sweep) -> str:
    """3 done, 1 waiting (paused); 1 run was removed"""
    try:
        trials = sweep.trials()
    except InputError as fault:
        return fault.diagnostics[0].message
    states, removed = [trial.state for trial in trials], sum(trial.is_removed for trial in trials)
    gone = f"; {removed_in_words(removed)}" if removed else ""
    return in_words(states) + (" (paused)" if states and sweep.paused else "") + gone
