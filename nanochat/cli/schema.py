"""`nanochat schema`: what an editor needs to complete, explain and check recipes."""

from pathlib import Path

import click

from nanochat.errors import wrong_input


@click.command("schema")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write it there, not to the screen.",
)
def command(output: Path | None) -> None:
    """Print the JSON Schema (Draft 4) of a recipe, for the core and all plugins that are installed.

    An editor with taplo (VS Code: Even Better TOML) takes it from the first line of a recipe: #:schema ./schema.json
    """
    from nanochat.recipe.json_schema import json_schema, schema_text
    from nanochat.registry import load_registry

    text = schema_text(json_schema(load_registry()))
    if output is None:
        click.echo(text, nl=False)
    else:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as fault:
            help_line = "name a file in a folder that is there, and that you may write to"
            raise wrong_input("E407", f"{output} cannot be written: {fault.strerror}", help=help_line) from fault
        click.echo(f"wrote {output}")
