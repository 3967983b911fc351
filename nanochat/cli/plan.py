"""`nanochat plan RECIPE`: what a run would do to each stage, and why. Nothing is changed."""

import json
from pathlib import Path

import click

from nanochat.cli.sheet import print_table
from nanochat.hardware import probe_machine
from nanochat.recipe.artifacts import KEY_CHARACTERS
from nanochat.recipe.load import load_recipe
from nanochat.registry import load_registry
from nanochat.running.plan import Plan, PlannedStage, make_plan
from nanochat.running.store import Store

_COLOURS = {"reuse": "green", "resume": "cyan", "run": "yellow", "blocked": "red"}


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
    else:
        _print(plan)


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


def _print(plan: Plan) -> None:
    blocked = f", {len(plan.blocked)} blocked" if plan.blocked else ""
    click.echo(f"{plan.recipe.name}: {len(plan.to_do)} of {len(plan.stages)} stages to do{blocked}")
    rows = [
        [
            stage.name,
            stage.action,
            stage.key[:KEY_CHARACTERS],
            "\n".join([_why(stage), *(f"  {line}" for line in _change_lines(stage))]),
        ]
        for stage in plan.stages
    ]
    print_table(["stage", "action", "key", "why"], rows, colours=_COLOURS)
    click.echo(f"run folder: {plan.run_folder}")
