"""`nanochat plugins`: what is installed, what it offers, what is wrong with it. `show` one; write a `new` one."""

import json
from collections.abc import Iterable, Sequence

import click

from nanochat.cli.new_plugin import command as new
from nanochat.errors import did_you_mean, wrong_input
from nanochat.recipe.notation import article
from nanochat.registrar import PluginStatus
from nanochat.registry import load_registry, normal_name


@click.group("plugins", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the installed plugins; `show` one of them, or write a `new` one."""
    if context.invoked_subcommand is not None:
        if as_json:
            context.fail("--json comes after the command: nanochat plugins show NAME --json")
        return
    registry = load_registry()
    if as_json:
        click.echo(json.dumps(registry.describe(registry.plugins), indent=2))
        return
    for plugin in registry.plugins:
        _print(plugin, ((kind, ", ".join(names)) for kind, names in _by_kind(plugin)))
    for kind, name, owners in registry.collisions():
        click.secho(f"{kind} `{name}` is claimed by {' and '.join(owners)}", fg="red")


@command.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, as_json: bool) -> None:
    """Print where the components of one plugin come from, by its name or its distribution's."""
    registry = load_registry()
    plugins = registry.plugins
    found = [p for p in plugins if normal_name(name) in (normal_name(p.name), normal_name(p.distribution))]
    if not found:
        raise wrong_input("E201", f"no plugin `{name}` is installed", help=_meant(name, plugins))
    if as_json:
        click.echo(json.dumps(registry.describe(found), indent=2))
        return
    for plugin in found:
        _print(plugin, ((e.kind, f"{e.name}  {e.build}  revision {e.revision}") for e in plugin.components))


command.add_command(new)


def _meant(name: str, plugins: Sequence[PluginStatus]) -> str:
    """What to ask instead of a plugin that is not there: for a component, about it or the plugin that has it."""
    having = [entry for plugin in plugins for entry in plugin.components if entry.name == name]
    if having:
        owners = dict.fromkeys(f"{article(entry.kind)} of `{entry.distribution}`" for entry in having)
        return f"`{name}` is {' and '.join(owners)}: `nanochat explain {name}` says more of it"
    near = did_you_mean(name, {known for plugin in plugins for known in (plugin.name, plugin.distribution)})
    return near or "`nanochat plugins` lists them"


def _print(plugin: PluginStatus, offers: Iterable[tuple[str, str]]) -> None:
    """A plugin's head, what it offers, kind by kind, and what it observes."""
    observed = [("observes", ", ".join(plugin.observers))] if plugin.observers else []
    click.echo(_head(plugin))
    for kind, text in (*offers, *observed):
        click.echo(f"  {kind:<11} {text}")


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
