"""`nanochat data show RECIPE stages.sft --index 3`: one conversation, and which of its tokens are learnt."""

import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nanochat.cli.recipe_argument import named_run, recipe_file
from nanochat.hardware import probe_machine
from nanochat.printable import printable
from nanochat.recipe.load import load_recipe
from nanochat.registry import load_registry

if TYPE_CHECKING:
    from nanochat.running.shown_conversation import ShownConversation

LEARNT = ("⟦", "⟧")
"""What stands around it where there is no colour."""


@click.command("show")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("where", metavar="stages.STAGE[.data.TASK]")
@click.option("--index", type=int, default=0, help="In the order of the first pass, or of the one task.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of the recipe.")
@click.option("--color/--no-color", "colored", default=None, help="Without it: colours on a terminal alone.")
def show(recipe: Path, where: str, index: int, overrides: tuple[str, ...], colored: bool | None) -> None:
    """Print a conversation that a stage of RECIPE learns from, as tokens: what is learnt is green, or between ⟦ and ⟧.

    Its tokenizer must be trained: nanochat-run RECIPE --until tok.
    """
    from nanochat.running.shown_conversation import conversation_of  # imports NumPy and the encoder

    machine = probe_machine()
    loaded = load_recipe(
        recipe_file(recipe), overrides=overrides, machine=machine, record=named_run(recipe) is not None
    )
    found = conversation_of(loaded, machine, load_registry(block=loaded.block), where, index)
    in_color = sys.stdout.isatty() if colored is None else colored
    total = sum(found.counts.values())
    click.echo(f"conversation {index:,} of {total:,}: example {found.index:,} of `{found.task}`")
    click.echo(_text(found, 0, found.kept, colored=in_color), color=in_color)
    if found.kept < len(found.ids):
        click.echo(f"--- cut here: a row holds {found.row:,} tokens ---")
        click.echo(_text(found, found.kept, len(found.ids), colored=in_color), color=in_color)
    row = f"; a row holds {found.row:,}" if found.row is not None else ""
    click.echo(f"{len(found.ids):,} tokens, {found.kept:,} in a row, {sum(found.learnt):,} of them learnt{row}")
    if len(found.counts) > 1:
        click.echo("in a pass: " + ", ".join(f"{name} {count:,}" for name, count in found.counts.items()))


def _text(found: "ShownConversation", start: int, stop: int, *, colored: bool) -> str:
    """The tokens from start to stop: specials by their names, dim where there is colour."""
    shown, first_special = "", found.tokenizer.vocab_size - len(found.tokenizer.special_tokens)
    for learnt, of_one in groupby(range(start, stop), key=lambda place: found.learnt[place]):
        stretch = ""
        for special, places in groupby(of_one, key=lambda place: found.ids[place] >= first_special):
            text = printable(found.tokenizer.decode([found.ids[place] for place in places]))
            stretch += click.style(text, fg="green" if learnt else None, dim=special or None) if colored else text
        shown += f"{LEARNT[0]}{stretch}{LEARNT[1]}" if learnt and not colored else stretch
    return shown
