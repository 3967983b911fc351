"""`nanochat report [RUN | RUN/STAGE | SWEEP]`: write a report again, as Markdown and as a page, and print it."""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import click

from nanochat.cli.printed_report import print_report
from nanochat.errors import InputError, wrong_input
from nanochat.home import expanded
from nanochat.quantity import counted
from nanochat.reporting.files import document_of_stage, settle, write_plots, write_report
from nanochat.reporting.run_report import run_document
from nanochat.reporting.subject import read_subject
from nanochat.reporting.sweep_report import sweep_document
from nanochat.running.find import find_run, find_stage
from nanochat.running.run_folder import PAGE, RunFolder
from nanochat.running.store import StageFolder
from nanochat.sweeping.sweep import SWEEP, Sweep, find_sweep

Stage = tuple[RunFolder | None, StageFolder]


def _finite(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Refuse nan, which compares with no bound of a range."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is no number", context, parameter)
    return value


@click.command("report")
@click.argument("what", required=False, metavar="[RUN | RUN/STAGE | SWEEP]")
@click.option("--sweep", "is_sweep", is_flag=True, help="It is the sweep of this name, not the run.")
@click.option("--figure", metavar="NAME", help="Of a sweep: the figure that its variants are compared by.")
@click.option(
    "--price",
    type=click.FloatRange(0, 1e6),
    callback=_finite,
    metavar="DOLLARS",
    help="Of a run: what one of its devices costs for an hour. Remembered.",
)
@click.option(
    "--watts",
    type=click.FloatRange(0, 1e6),
    callback=_finite,
    metavar="WATTS",
    help="Of a run: what one of its devices draws. Remembered.",
)
@click.option(
    "--plots",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Also write each plot as an SVG file.",
)
@click.option("--open", "in_browser", is_flag=True, help="Show the page in the browser.")
def command(
    what: str | None,
    is_sweep: bool,
    figure: str | None,
    price: float | None,
    watts: float | None,
    plots: Path | None,
    in_browser: bool,
) -> None:
    """Write the report of a run, a stage or a sweep, and print it; without a name, of the newest run.

    report.md and report.html, one page with plots that needs no other file, lie in the run's, the stage's or the
    sweep's folder. A run's is written by itself when the run ends, however it ends, and once a minute before.

    \b
    nanochat report                      the newest run
    nanochat report quickstart/base      one stage of it
    nanochat report --price 2.50 d20     with what it cost
    nanochat report --sweep depths --figure bpb.bpb
    """
    found = _found(what, is_sweep=is_sweep)
    given = {"price": price, "watts": watts}
    if not isinstance(found, RunFolder) and any(value is not None for value in given.values()):
        raise wrong_input("E407", "--price and --watts are of runs", help="name a run")
    if not isinstance(found, Sweep) and figure is not None:
        raise wrong_input("E407", "--figure is of sweeps", help="name a sweep: nanochat sweeps lists them")
    if isinstance(found, Sweep):
        document, folder = sweep_document(found, figure), found.path
    elif isinstance(found, RunFolder):
        settle(found, given)
        document, folder = run_document(read_subject(found)), found.path
    else:
        run, stage = found
        document, folder = document_of_stage(stage, run), stage.path
    text = write_report(document, folder)
    if sys.stdout.isatty():
        print_report(document, PAGE)
    else:
        click.echo(text, nl=False)
    click.echo(f"\nwith plots: {folder / PAGE}", err=True)
    if plots is not None:
        click.echo(f"{counted(len(write_plots(document, plots)), 'plot')} in {plots}", err=True)
    if in_browser:
        click.launch((folder / PAGE).as_uri())


def _found(what: str | None, *, is_sweep: bool) -> RunFolder | Sweep | Stage:
    """What is meant. InputError E405 where nothing is."""
    if what is None and not is_sweep:
        return find_run()
    if is_sweep:
        if what is None:
            raise wrong_input("E407", "--sweep needs a name", help="nanochat sweeps lists them")
        return _sweep(what)
    assert what is not None
    looks: list[Callable[[str], RunFolder | Sweep | Stage]] = [find_run, _sweep, find_stage]
    faults = []
    for look in looks:
        try:
            return look(what)
        except InputError as fault:
            faults.append(fault)
    # Of RUN/STAGE, what the last says is nearest.
    raise faults[-1 if "/" in what else 0]


def _sweep(name: str) -> Sweep:
    place = expanded(name)
    return Sweep(place.absolute()) if (place / SWEEP).is_file() else find_sweep(name)
