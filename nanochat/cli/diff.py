"""`nanochat diff A B …`: what differs between recipes, runs, or some of each. Exit 0: nothing, 1: something."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import click

from nanochat.cli.paired_text import print_pairs_of_examples
from nanochat.cli.recipe_argument import named_run, recipe_file
from nanochat.cli.sheet import print_pairs, print_table, print_text
from nanochat.markdown import table
from nanochat.recipe.diff import GROUPS, Difference, Side, diff
from nanochat.recipe.diff_text import ratio_text, value_texts
from nanochat.recipe.load import load_recipe
from nanochat.recipe.lock import distribution_versions
from nanochat.running.figures import finished_stages
from nanochat.running.paired import Paired, compare
from nanochat.running.side import lock_table, run_side


@click.command("diff")
@click.argument("sides", nargs=-1, required=True, metavar="A B [C …]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--md", "as_markdown", is_flag=True, help="Print Markdown tables.")
@click.option("--all", "everything", is_flag=True, help="Also what is the same.")
@click.option("--flips", is_flag=True, help="Of two runs, each example that became right or wrong.")
def command(sides: tuple[str, ...], as_json: bool, as_markdown: bool, everything: bool, flips: bool) -> None:
    """Compare A with B (and C …), each a recipe's file, a lock, a run's folder or its name.

    One alone is compared with the run that it was branched from, by `nanochat new --from`.

    Of two runs that measured the same examples, evaluations are also compared example by example, by a paired test.

    Exit codes: 0 the same · 1 different · 2 one of them cannot be read.
    """
    if len(sides) < 2:
        sides = (_parent(sides[0]), sides[0])
    if as_json and as_markdown:
        raise click.UsageError("--json and --md are two ways of printing: choose one")
    compared = [_side(argument) for argument in sides]
    found = diff(compared, everything=everything)
    pairs = _pairs(sides)
    if as_json:
        described = {"sides": [side.label for side in compared], "differences": [_described(one) for one in found]}
        if pairs:
            described["examples"] = [attrs.asdict(pair) for pair in pairs]
        click.echo(json.dumps(described, indent=2, ensure_ascii=False, default=str))
    elif as_markdown:
        _print_markdown(found, compared)
    elif len(compared) > 2:
        _print_tables(found, compared)
    else:
        _print_changes(found, compared)
    if pairs and not as_json:
        print_pairs_of_examples(pairs, as_markdown=as_markdown, flips=flips)
    sys.exit(0 if all(difference.same for difference in found) else 1)


def _parent(argument: str) -> str:
    """The run that a recipe or run was branched from."""
    run = named_run(argument)
    recipe = load_recipe(recipe_file(argument), record=run is not None)
    found = recipe.values.get(("parent",))
    if found is None:
        raise click.UsageError("two things at least are compared: nanochat diff A B")
    return str(found.value)


def _side(argument: str) -> Side:
    run = named_run(argument)
    if run is None:
        recipe = load_recipe(argument)
        derived = frozenset(lock_table(Path(argument)).get("derived", {}))
        return Side(label=argument, recipe=recipe, derived=derived, versions=distribution_versions(recipe))
    return run_side(run)


def _pairs(sides: Sequence[str]) -> list[Paired]:
    """What two runs' stages of one name measured on the same examples."""
    runs = [run for run in map(named_run, sides) if run is not None]
    if len(runs) != 2 or len(sides) != 2:
        return []
    first, second = ({stage.name: stage.folder.path for stage in finished_stages(run)} for run in runs)
    return [
        attrs.evolve(pair, name=f"{name}.{pair.name}")
        for name, folder in first.items()
        if name in second and second[name] != folder
        for pair in compare(folder, second[name])
    ]


def _described(difference: Difference) -> dict[str, Any]:
    described: dict[str, Any] = {
        "group": difference.group,
        "key": difference.key,
        "values": list(difference.values),
    }
    if any(difference.origins):
        described["origins"] = list(difference.origins)
    if difference.ratio is not None:
        described["ratio"] = difference.ratio
    if difference.errors:
        described |= {"standard_errors": list(difference.errors), "deviations": difference.deviations}
    return described


def _by_group(found: Sequence[Difference]) -> Iterator[tuple[str, list[Difference]]]:
    for group in GROUPS:
        members = [difference for difference in found if difference.group == group]
        if members:
            yield group, members


def _print_changes(found: Sequence[Difference], sides: Sequence[Side]) -> None:
    """Two sides: a line for each change."""
    print_text(" → ".join(side.label for side in sides))
    if not found:
        click.echo("no difference")
    for group, members in _by_group(found):
        click.secho(group, bold=True)
        print_pairs([(difference.key, _change(difference)) for difference in members], indent="  ")


def _change(difference: Difference) -> str:
    values = value_texts(difference)
    return (values[0] if difference.same else " → ".join(values)) + _notes(difference)


def _notes(difference: Difference) -> str:
    ratio = f"  ×{ratio_text(difference)}" if ratio_text(difference) else ""
    deviations = difference.deviations
    return ratio if deviations is None else f"{ratio}  ({deviations:.1f} standard errors)"


def _print_tables(found: Sequence[Difference], sides: Sequence[Side]) -> None:
    """More than two sides: an aligned table for each group."""
    if not found:
        click.echo("no difference")
    for group, members in _by_group(found):
        click.secho(group, bold=True)
        print_table(*_titles_and_rows(members, sides), indent="  ")


def _print_markdown(found: Sequence[Difference], sides: Sequence[Side]) -> None:
    """A table for each group."""
    if not found:
        click.echo("No difference.")
    for group, members in _by_group(found):
        click.echo(f"### {group}\n\n{table(*_titles_and_rows(members, sides))}\n")


def _titles_and_rows(members: Sequence[Difference], sides: Sequence[Side]) -> tuple[list[str], list[list[str]]]:
    """Key and values; of two sides also their ratio."""
    two = len(sides) == 2
    rows = []
    for difference in members:
        rows.append([difference.key, *value_texts(difference), *([ratio_text(difference)] if two else [])])
    return ["key", *(side.label for side in sides), *(["ratio"] if two else [])], rows
