"""`nanochat report [RUN]`: write a run's report again and print it."""

import click

from nanochat.running.find import find_run
from nanochat.running.report import write_report


@click.command("report")
@click.argument("run", required=False)
def command(run: str | None) -> None:
    """Print the report of RUN (a name or a folder); of the newest run without one."""
    click.echo(write_report(find_run(run)), nl=False)
