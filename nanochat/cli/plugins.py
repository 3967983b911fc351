"""`nanochat plugins`: what is installed, what it offers, and what is wrong with it."""

import json
from collections.abc import Iterable

import click

from nanochat.registry import PluginStatus, describe, load_registry


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List the installed plugins."""
    registry = load_registry()
    if as_json:
        click.echo(json.dumps(describe(registry), indent=2))
        return
    for plugin in registry.plugins:
        click.echo(_head(plugin))
        for kind, names in _by_kind(plugin):
            click.echo(f"  {kind:<11} {', '.join(names)}")
    for kind, name, owners in registry.collisions():
        click.secho(f"{kind} `{name}` is claimed by {' and '.join(owners)}", fg="red")


def _head(plugin: PluginStatus) -> str:
    where = plugin.distribution if plugin.distribution != plugin.name else ""
    words = [click.style(plugin.name, bold=True), plugin.version, f"({where})" if where else ""]
    colour = "green" if plugin.status == "ok" else "red" if plugin.status == "broken" else "yellow"
    words.append(click.style(plugin.status, fg=colour))
    words.append(f"— {plugin.reason}" if plugin.reason else "")
    return " ".join(word for word in words if word)


def _by_kind(plugin: PluginStatus) -> Iterable[tuple[str, list[str]]]:
    kinds: dict[str, list[str]] = {}
    for entry in plugin.components:
        kinds.setdefault(entry.kind, []).append(entry.name)
    return ((kind, sorted(names)) for kind, names in kinds.items())
