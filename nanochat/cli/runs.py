"""`nanochat runs`: what was run, when, how it stands, what came out; its commands show, remove and verify."""

import json

import click

from nanochat.cli.runs_remove import gc, rm
from nanochat.cli.runs_show import show
from nanochat.cli.runs_verify import verify
from nanochat.cli.sheet import print_table
from nanochat.markdown import table
from nanochat.quantity import duration
from nanochat.running.figures import headline
from nanochat.running.find import list_runs
from nanochat.running.summary import STATES, summary


@click.group("runs", invoke_without_command=True)
@click.option("--recipe", metavar="NAME", help="Only the runs of this recipe.")
@click.option("--state", type=click.Choice(STATES), help="Only the runs in this state.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@click.option("--md", "as_markdown", is_flag=True, help="Print a Markdown table.")
@click.pass_context
def command(context: click.Context, recipe: str | None, state: str | None, as_json: bool, as_markdown: bool) -> None:
    """List the runs, newest first."""
    if context.invoked_subcommand is not None:
        if recipe or state or as_json or as_markdown:
            context.fail(
                "--recipe, --state, --json and --md here narrow and print the list; others come after the command"
            )
        return
    found = [summary(run) for run in list_runs() if recipe in (None, run.plan.get("recipe"))]
    found = [run for run in found if state in (None, run["state"])]
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    elif not found:
        asked = recipe or state
        click.echo("no such runs" if asked else "no runs yet; the first: nanochat-run recipes/quickstart.toml")
    else:
        rows = [
            [
                run["run"],
                run["started"][:16].replace("T", " "),
                run["state"],
                f"{run['done']} of {run['planned']}",
                duration(run["seconds"]),
                headline(run["figures"]),
            ]
            for run in found
        ]
        columns = ["run", "last started (UTC)", "state", "stages", "time", "figures"]
        if as_markdown:
            click.echo(table(columns, rows))
        else:
            print_table(columns, rows)


for subcommand in (show, rm, gc, verify):
    command.add_command(subcommand)
