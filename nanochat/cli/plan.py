"""`nanochat plan RECIPE`: what a run would do to each stage, and why. Nothing is changed."""

import json
import sys
from pathlib import Path

import click

from nanochat.hardware import probe_machine
from nanochat.recipe.artifacts import KEY_CHARACTERS
from nanochat.recipe.load import load_recipe
from nanochat.registry import load_registry
from nanochat.running.plan import Plan, PlannedStage, make_plan
from nanochat.running.store import Store

_STYLES = {"reuse": "green", "resume": "cyan", "run": "yellow", "blocked": "red"}


@click.command("plan")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of the recipe.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def command(recipe: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show what a run of RECIPE would do: reuse, resume, run or blocked, and why."""
    machine, registry = probe_machine(), load_registry()
    loaded = load_recipe(recipe, overrides=overrides, registry=registry, machine=machine)
    plan = make_plan(loaded, machine, Store(), registry)
    for warning in plan.recipe.warnings:
        click.echo(warning.render(), err=True)
    for stage in plan.stages:
        if stage.drift:
            click.secho(f"warning: {stage.drift_warning()}", fg="yellow", err=True)
    if as_json:
        click.echo(json.dumps(plan.description(), indent=2, ensure_ascii=False, default=str))
    elif sys.stdout.isatty():
        _print_table(plan)
    else:
        _print_lines(plan)


def _why(stage: PlannedStage) -> str:
    """One line: the reason, or how many changes are listed below it."""
    return stage.why if len(stage.changes) < 2 else f"{len(stage.changes)} changes since {stage.since}"


def _change_lines(stage: PlannedStage) -> list[str]:
    """Several changes, field by field, each with the place of its new value."""
    if len(stage.changes) < 2:
        return []
    width = max(len(change.field) for change in stage.changes)
    shown = [(f"{change.field:<{width}}  {change.text}", change.origin) for change in stage.changes]
    broad = min(60, max(len(line) for line, _ in shown))
    return [f"{line:<{broad}}  {origin}".rstrip() for line, origin in shown]


def _print_lines(plan: Plan) -> None:
    width = max(len(stage.name) for stage in plan.stages)
    for stage in plan.stages:
        click.echo(f"{stage.name.ljust(width)}  {stage.action.ljust(7)}  {stage.key[:KEY_CHARACTERS]}  {_why(stage)}")
        for line in _change_lines(stage):
            click.echo(f"{' ' * width}    {line}")
    click.echo(f"run folder: {plan.run_folder}")


def _print_table(plan: Plan) -> None:
    from rich.console import Console  # 0.1 s that a pipe does without
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{plan.recipe.name}: {len(plan.to_do)} of {len(plan.stages)} stages to do", box=None)
    for title in ("stage", "action", "key", "why"):
        table.add_column(title, no_wrap=title != "why")
    for stage in plan.stages:
        action = Text(stage.action, style=_STYLES[stage.action])
        why = Text("\n".join([_why(stage), *(f"  {line}" for line in _change_lines(stage))]))
        table.add_row(Text(stage.name), action, Text(stage.key[:KEY_CHARACTERS]), why)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"run folder: {plan.run_folder}", markup=False, soft_wrap=True)
