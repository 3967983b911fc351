"""How a comparison example by example is printed: a table, and each example that changed where it is asked for."""

from collections.abc import Sequence

import click

from nanochat.cli.sheet import print_table, print_text
from nanochat.markdown import table
from nanochat.quantity import counted
from nanochat.running.paired import Flip, Paired

QUESTION_CHARACTERS = 100
_NOTE = (
    "means over examples, of which each counts once; the same ones are compared, so that differences are told that the "
    "figures' own errors would hide"
)
_TITLES = ("evaluation", "examples", "first", "second", "difference", "gained", "lost", "p")


def print_pairs_of_examples(pairs: Sequence[Paired], *, as_markdown: bool, flips: bool) -> None:
    """On stdout, behind the differences of the recipes."""
    rows = [_row(pair) for pair in pairs]
    tests = ", ".join(dict.fromkeys(pair.test for pair in pairs))
    if as_markdown:
        click.echo(f"\n## examples\n\n{table(_TITLES, rows)}\n\np: {tests}; {_NOTE}")
    else:
        click.secho("examples", bold=True)
        print_table(_TITLES, rows, words=1, indent="  ")
        print_text(f"p: {tests}; {_NOTE}", indent="  ")
    for pair in pairs:
        if pair.unpaired:
            are = "is" if pair.unpaired == 1 else "are"
            examples = counted(pair.unpaired, "example")
            print_text(f"{pair.name}: {examples} that one of them lacks {are} left out", indent="  ")
    if flips:
        _print_flips(pairs, as_markdown=as_markdown)


def _row(pair: Paired) -> list[str]:
    first, second = pair.means
    return [
        pair.name,
        f"{pair.n:,}",
        f"{first:.4f}",
        f"{second:.4f}",
        f"{second - first:+.4f} ± {pair.standard_error:.4f}",
        str(pair.gained),
        str(pair.lost),
        f"{pair.p:.2g}",
    ]


def _print_flips(pairs: Sequence[Paired], *, as_markdown: bool) -> None:
    """Each once: under its evaluation as a whole."""
    names = [pair.name for pair in pairs]
    whole = [pair for pair in pairs if pair.name.rpartition(".")[0] not in names]
    rows = [[pair.name, *_flip(flip)] for pair in whole for flip in pair.flips]
    titles = ("evaluation", "task", "index", "first", "second", "question")
    if as_markdown:
        click.echo(f"\n## flips\n\n{table(titles, rows)}")
    elif rows:
        click.secho("flips", bold=True)
        print_table(titles, rows, indent="  ")


def _flip(flip: Flip) -> list[str]:
    question = " ".join(flip.question.split())
    short = question if len(question) <= QUESTION_CHARACTERS else "…" + question[-QUESTION_CHARACTERS:]
    return [flip.task, str(flip.index), f"{flip.scores[0]:g}", f"{flip.scores[1]:g}", short]
