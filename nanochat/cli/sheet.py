"""A table on the screen: aligned columns; in a terminal too narrow for them, each row as a paragraph.

In: titles and rows of text. Out: lines on stdout, coloured on a terminal. Not here: what stands in the cells.
"""

import shutil
import sys
import textwrap
from collections.abc import Sequence

import click

from nanochat.running.report import table


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Words alone, the first a name to be copied; in a pipe as Markdown."""
    if sys.stdout.isatty():
        _print(columns, rows, heads=1, words=len(columns), indent="")
    else:
        click.echo(table(columns, rows))


def print_sheet(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """A title and a table whose first `left` columns are words, the others numbers. Nothing where no row is."""
    if not rows:
        return
    click.echo()
    click.secho(title, bold=True)
    _print(columns, rows, heads=left, words=left, indent="  ")


def _print(columns: Sequence[str], rows: Sequence[Sequence[str]], *, heads: int, words: int, indent: str) -> None:
    """The first `words` columns aligned left; a paragraph begins with the first `heads`."""
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if room is not None and len(indent) + sum(widths) + 2 * (len(widths) - 1) > room:
        for row in rows:
            click.echo(_paragraph(columns, row, heads, room, indent))
        return
    click.secho(indent + _line(columns, widths, words), dim=True)
    for row in rows:
        click.echo(indent + _line(row, widths, words))


def _line(cells: Sequence[str], widths: Sequence[int], words: int) -> str:
    aligned = [
        cell.ljust(width) if i < words else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(aligned).rstrip()


def _paragraph(columns: Sequence[str], row: Sequence[str], heads: int, room: int, indent: str) -> str:
    """tok tokenizer: parameters 561 M · tokens 2 G."""
    figures = [f"{column} {cell}" for column, cell in zip(columns[heads:], row[heads:], strict=True) if cell]
    return textwrap.fill(
        f"{' '.join(row[:heads])}: {' · '.join(figures)}",
        max(20, room),
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,  # names and paths are copied whole
        break_on_hyphens=False,
    )
