"""`nanochat runs`: what was run, when, how it stands, what came out; its commands show, remove and verify."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from nanochat.cli.runs_compare import Wanted, cells, compared, heads, left_out, plain, titles
from nanochat.cli.runs_remove import gc, rm
from nanochat.cli.runs_show import show
from nanochat.cli.runs_verify import verify
from nanochat.cli.sheet import print_table
from nanochat.markdown import table
from nanochat.quantity import counted, duration
from nanochat.running.figures import headline
from nanochat.running.find import list_runs
from nanochat.running.summary import STATES, summary


@click.group("runs", invoke_without_command=True)
@click.option("--recipe", metavar="NAME", help="Only the runs of this recipe.")
@click.option("--state", type=click.Choice(STATES), help="Only the runs in this state.")
@click.option("--columns", metavar="KEY,KEY", help="What is compared: keys of the recipes, STAGE.FIGURE.")
@click.option("--sort", metavar="KEY", help="By a column, the least first; -KEY: the largest first.")
@click.option("--where", multiple=True, metavar="KEY=VALUE", help="Only these; also != < <= > >=.")
@click.option("--over", metavar="KEY", help="Means and standard errors of finished runs that differ in this key alone.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@click.option("--md", "as_markdown", is_flag=True, help="Print a Markdown table.")
@click.pass_context
def command(
    context: click.Context,
    /,
    recipe: str | None,
    state: str | None,
    columns: str | None,
    as_json: bool,
    as_markdown: bool,
    **compare: Any,
) -> None:
    """List the runs, newest first; with --columns, --sort, --where or --over compare them.

    A column is a key of the recipes (stages.base.model.depth) or a figure (base.bpb.bpb, base.loss); parts may be left
    out where that is clear: base.depth, base.bpb. --over seed gives each group of seeds a row.
    """
    wanted = Wanted(columns=tuple(filter(None, (columns or "").split(","))), **compare)
    if context.invoked_subcommand is not None:
        if recipe or state or as_json or as_markdown or wanted.anything:
            context.fail("the options here narrow, compare and print the list; others come after the command")
        return
    runs = [run for run in list_runs() if recipe in (None, run.plan.get("recipe"))]
    found = [(run, told) for run in runs if (told := summary(run))["state"] == state or state is None]
    if not found and not as_json:
        asked = recipe or state
        click.echo("no such runs" if asked else "no runs yet; the first: nanochat-run recipes/quickstart.toml")
    elif wanted.anything:
        rows = compared([(run, told["state"]) for run, told in found], wanted)
        chosen = titles(rows, wanted) if rows else []
        if as_json:
            click.echo(json.dumps([plain(row, chosen) for row in rows], indent=2, ensure_ascii=False))
        else:
            _print(["run", "state", *heads(chosen, wanted)], [cells(row, chosen) for row in rows], as_markdown)
            if (more := left_out(rows, wanted)) and not as_markdown:
                click.echo(f"and {counted(more, 'more column')}: --columns KEY,KEY shows those that it names")
    elif as_json:
        click.echo(json.dumps([told for _, told in found], indent=2, ensure_ascii=False))
    else:
        _print(_COLUMNS, [_cells(told) for _, told in found], as_markdown)


_COLUMNS = ["run", "last started (UTC)", "state", "stages", "time", "figures"]


def _cells(told: Mapping[str, Any]) -> list[str]:
    return [
        told["run"],
        told["started"][:16].replace("T", " "),
        told["state"],
        f"{told['done']} of {told['planned']}",
        duration(told["seconds"]),
        headline(told["figures"]),
    ]


def _print(columns: Sequence[str], rows: Sequence[Sequence[str]], as_markdown: bool) -> None:
    if not rows:
        click.echo("no such runs")
    elif as_markdown:
        click.echo(table(columns, rows))
    else:
        print_table(columns, rows)


for subcommand in (show, rm, gc, verify):
    command.add_command(subcommand)
