"""`nanochat show RECIPE`: the recipe as it is understood, every value filled in."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from nanochat.cli.recipe_argument import named_run, recipe_file
from nanochat.errors import did_you_mean, wrong_input
from nanochat.recipe.load import load_recipe
from nanochat.recipe.resolved import KeyPath, Origin, Recipe, Value


@click.command("show")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of the recipe.")
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@click.option("--stage", metavar="NAME", help="Only this stage.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(recipe: Path, overrides: tuple[str, ...], origin: bool, stage: str | None, as_json: bool) -> None:
    """Print the resolved RECIPE as TOML."""
    loaded = load_recipe(recipe_file(recipe), overrides=overrides, record=named_run(recipe) is not None)
    values = _chosen(loaded, stage)
    if as_json:
        click.echo(json.dumps({".".join(path): _described(leaf) for path, leaf in values.items()}, indent=2))
    elif origin:
        _print_origins(values)
    else:
        import tomli_w

        from nanochat.recipe.lock import nested

        click.echo(tomli_w.dumps({"format": 1, **nested(values)} if stage is None else nested(values)), nl=False)


def _chosen(recipe: Recipe, stage: str | None) -> Mapping[KeyPath, Value]:
    if stage is None:
        return recipe.values
    if stage not in recipe.stages:
        near = did_you_mean(stage, recipe.stages)
        help_line = near or f"stages: {', '.join(recipe.stages)}"
        raise wrong_input("E405", f"the recipe has no stage `{stage}`", help=help_line)
    return recipe.stages[stage].values


def _described(leaf: Value) -> dict[str, Any]:
    origin = leaf.origin
    described: dict[str, Any] = {
        "value": leaf.value,
        "origin": str(origin),
        "kind": origin.kind,
        "identity": leaf.identity,
        "default": leaf.default,
    }
    if origin.kind == "derived":
        described |= {"rule": origin.rule, "inputs": origin.inputs, "sentence": origin.sentence}
    return described


def _print_origins(values: Mapping[KeyPath, Value]) -> None:
    """Dotted keys, still TOML, with the origin as a comment."""
    from nanochat.recipe.notation import key_text, value_text

    lines = [(f"{key_text(path)} = {value_text(leaf.value)}", leaf) for path, leaf in values.items()]
    width = min(72, max(len(line) for line, _ in lines))
    for line, leaf in lines:
        click.echo(f"{line:<{width}}  # {leaf.origin}{_rule(leaf.origin)}")


def _rule(origin: Origin) -> str:
    """What a derivation does, and what it was given; empty for other values."""
    from nanochat.recipe.notation import value_text

    given = ", ".join(f"{name} = {value_text(value)}" for name, value in origin.inputs.items())
    said = "; ".join(part for part in (origin.sentence, given) if part)
    return f" ({said})" if said else ""
