"""`nanochat explain E102`: what an error code means, and what to do about it."""

import click

from nanochat.errors import CODES, wrong_input
from nanochat.recipe.problems import did_you_mean


@click.command("explain")
@click.argument("code", required=False)
def command(code: str | None) -> None:
    """Say what an error CODE means; without one, list them all."""
    if code is None:
        for known, meaning in CODES.items():
            click.echo(f"{known}  {meaning}")
        return
    name = code.upper()
    if name not in CODES:
        near = did_you_mean(name, CODES)
        raise wrong_input("E407", f"there is no error code `{code}`", help=near or "`nanochat explain` lists them all")
    from nanochat.cli.explanations import EXPLANATIONS

    click.echo(f"{name}: {CODES[name]}")
    click.echo(EXPLANATIONS[name])
