"""`nanochat diff A B`: what differs between two recipes, two runs, or one of each. Exit 0: nothing, 1: something."""

import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from nanochat.cli.recipe_argument import named_run
from nanochat.recipe.diff import GROUPS, Difference, Side, diff
from nanochat.recipe.load import load_recipe
from nanochat.recipe.lock import distribution_versions
from nanochat.recipe.notation import shown
from nanochat.running.json_file import read_json
from nanochat.running.run_folder import LOCK, RunFolder
from nanochat.running.store import RECORD


@click.command("diff")
@click.argument("a", type=click.Path())
@click.argument("b", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--md", "as_markdown", is_flag=True, help="Print Markdown tables.")
@click.option("--all", "everything", is_flag=True, help="Also what is the same.")
def command(a: str, b: str, as_json: bool, as_markdown: bool, everything: bool) -> None:
    """Compare A with B, each a recipe's file, a lock, a run's folder or its name."""
    left, right = _side(a), _side(b)
    found = diff(left, right, everything=everything)
    if as_json:
        click.echo(json.dumps([_described(difference) for difference in found], indent=2))
    elif as_markdown:
        _print_markdown(found, left, right)
    else:
        _print_text(found, left, right)
    sys.exit(0 if all(difference.same for difference in found) else 1)


def _side(argument: str) -> Side:
    run = named_run(argument)
    if run is None:
        recipe = load_recipe(argument)
        return Side(label=argument, recipe=recipe, versions=distribution_versions(recipe))
    recipe = load_recipe(run.path / LOCK, record=True)
    lock = tomllib.loads((run.path / LOCK).read_text(encoding="utf-8")).get("lock", {})
    return Side(
        label=run.path.name,
        recipe=recipe,
        derived=frozenset(lock.get("derived", {})),
        versions=lock.get("plugins", {}),
        figures=_figures(run),
    )


def _figures(run: RunFolder) -> dict[str, float]:
    """What a run's finished stages measured."""
    found: dict[str, float] = {}
    for stage in run.plan.get("stages", []):
        record = read_json(Path(stage["folder"]) / RECORD) or {}
        for name, figure in record.get("figures", {}).items():
            found[f"{stage['stage']}.{name}"] = figure["value"]
    return found


def _described(difference: Difference) -> dict[str, Any]:
    return {
        "group": difference.group,
        "key": difference.key,
        "a": difference.a,
        "b": difference.b,
        "ratio": difference.ratio,
        "origin_a": difference.origin_a,
        "origin_b": difference.origin_b,
    }


def _print_text(found: Sequence[Difference], a: Side, b: Side) -> None:
    click.echo(f"{a.label} → {b.label}")
    if not found:
        click.echo("no difference")
    for group in GROUPS:
        members = [difference for difference in found if difference.group == group]
        if not members:
            continue
        click.secho(group, bold=True)
        width = min(56, max(len(difference.key) for difference in members))
        for difference in members:
            ratio = f"  ×{difference.ratio:.4g}" if difference.ratio is not None else ""
            change = _value(difference.a)
            if not difference.same:
                change += f" → {_value(difference.b)}"
            click.echo(f"  {difference.key:<{width}}  {change}{ratio}")


def _print_markdown(found: Sequence[Difference], a: Side, b: Side) -> None:
    if not found:
        click.echo("No difference.")
    for group in GROUPS:
        members = [difference for difference in found if difference.group == group]
        if not members:
            continue
        click.echo(f"### {group}\n\n| key | {_cell(a.label)} | {_cell(b.label)} | ratio |\n| --- | --- | --- | --- |")
        for difference in members:
            ratio = f"{difference.ratio:.4g}" if difference.ratio is not None else ""
            values = f"{_cell(_value(difference.a))} | {_cell(_value(difference.b))}"
            click.echo(f"| {_cell(difference.key)} | {values} | {ratio} |")
        click.echo()


def _value(value: Any) -> str:
    return "—" if value is None else shown(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
