"""A table on the screen: aligned columns; in a terminal too narrow for them, each row as a paragraph.

In: titles and rows of text. Out: lines on stdout, coloured on a terminal. Not here: what stands in the cells.
"""

import shutil
import sys
import textwrap
from collections.abc import Sequence

import click


def print_sheet(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print a title and a table whose first `left` columns are words, the others numbers. Nothing where no row is."""
    if not rows:
        return
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    click.echo()
    click.secho(title, bold=True)
    if room is not None and sum(widths) + 2 * len(widths) > room:
        for row in rows:
            click.echo(_paragraph(columns, row, left, room))
        return
    click.secho(_line(columns, widths, left), dim=True)
    for row in rows:
        click.echo(_line(row, widths, left))


def _line(cells: Sequence[str], widths: Sequence[int], left: int) -> str:
    aligned = [
        cell.ljust(width) if i < left else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return ("  " + "  ".join(aligned)).rstrip()


def _paragraph(columns: Sequence[str], row: Sequence[str], left: int, room: int) -> str:
    """tok tokenizer: parameters 561 M · tokens 2 G."""
    figures = [f"{column} {cell}" for column, cell in zip(columns[left:], row[left:], strict=True) if cell]
    text = f"{' '.join(row[:left])}: {' · '.join(figures)}"
    return textwrap.fill(text, max(20, room), initial_indent="  ", subsequent_indent="    ")
