"""`nanochat run RECIPE` and `nanochat-run RECIPE`: do what a recipe says and is not done yet."""

import sys
from pathlib import Path

import click

from nanochat.reporting.file_reports import FileReports
from nanochat.running.progress import make_display
from nanochat.running.request import Request
from nanochat.running.runner import run_recipe


@click.command("run")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of the recipe.")
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
@click.option("--from", "start", metavar="STAGE", help="Begin with this stage; those before it must be finished.")
@click.option("--fresh", multiple=True, metavar="STAGE", help="Redo this stage, and what follows it.")
@click.option("--resume", metavar="STAGE@STEP", help="Go back to this checkpoint; what follows the stage is redone.")
@click.option(
    "--node-rank", type=click.IntRange(0), metavar="N", help="Which of several nodes this is; found out else."
)
@click.option("--dry-run", is_flag=True, help="Show the plan and the command lines, run nothing.")
@click.option("-q", "--quiet", is_flag=True, help="Show warnings and errors alone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line.")
def command(
    recipe: Path,
    overrides: tuple[str, ...],
    until: str | None,
    start: str | None,
    fresh: tuple[str, ...],
    resume: str | None,
    node_rank: int | None,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train what RECIPE declares: finished stages are skipped, one that was cut off goes on.

    Killed while it sets aside what --resume or --fresh replaces, the same command with that option goes on; once the
    first stage has begun, the command without it.

    On several machines give the same command on each: where the hardware table says nodes = 2 or more, the machine that
    `rendezvous` names leads, and the others do their share of each stage. Only where that cannot be told from its
    addresses is --node-rank needed.

    Ctrl-C or SIGTERM saves and stops, a second one stops at once; SIGUSR1 to this process saves and goes on. A process
    that is killed or stands still is started again with the others, as often as [hardware] restarts says.

    Exit codes: 0 done · 1 a stage failed · 2 the recipe or the command line is wrong · 75 stopped in order, run it
    again to go on.
    """
    request = Request(
        recipe=recipe,
        overrides=overrides,
        until=until,
        start=start,
        fresh=fresh,
        resume=resume,
        dry_run=dry_run,
        node_rank=node_rank,
    )
    sys.exit(run_recipe(request, make_display(quiet=quiet, as_json=as_json), reports=FileReports()))
