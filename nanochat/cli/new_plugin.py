"""`nanochat plugins new NAME`: a distribution of one's own, which installs, tests itself and runs a recipe."""

import importlib.util
import os
import shlex
from pathlib import Path

import click

from nanochat.registry import load_registry
from nanochat.scaffold.distribution import KINDS, check_free, make_distribution, parse_name


@click.command("new")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), default="task", show_default=True, help="What it offers.")
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FOLDER", help="Where to write it; must not exist. [./NAME]"
)
def command(name: str, kind: str, output: Path | None) -> None:
    """Write a distribution of your own: package, test, README, and a recipe that uses it."""
    chosen = parse_name(name)
    check_free(chosen, kind, load_registry())
    folder = output or Path(chosen.hyphened)
    files = make_distribution(chosen, kind, folder)
    click.echo(f"{folder}: the distribution {chosen.distribution}, with the {kind} `{chosen.component}`")
    for file in files:
        click.echo(f"  {file}")
    click.echo("next:")
    for line in _next_commands(folder):
        click.echo(f"  {line}")


def _next_commands(folder: Path) -> list[str]:
    """Install, test, run; by uv where it started this command, or made the environment, which then has no pip."""
    uv = "UV" in os.environ or importlib.util.find_spec("pip") is None
    extra = shlex.quote(f"{folder}[test]" if folder.is_absolute() else f"./{folder}[test]")
    start = "uv run " if uv else ""
    return [
        f"{'uv pip' if uv else 'python -m pip'} install -e {extra}",
        f"{start}pytest {shlex.quote(str(folder))}",
        f"{start}nanochat-run {shlex.quote(str(folder / 'recipe.toml'))}",
    ]
