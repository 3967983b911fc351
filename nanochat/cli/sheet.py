"""A table on the screen: drawn by rich on a terminal, aligned plain text in a pipe.

In: titles and rows of text. Out: lines on stdout. Not here: what stands in the cells.
"""

import sys
from collections.abc import Sequence

import click


def print_sheet(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print a title and a table whose first `left` columns are words, the others numbers. Nothing where no row is."""
    if not rows:
        return
    if sys.stdout.isatty():
        _draw(title, columns, rows, left)
    else:
        click.echo(f"\n{title}")
        widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
        for row in [columns, *rows]:
            cells = [
                cell.ljust(width) if i < left else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            click.echo("  " + "  ".join(cells).rstrip())


def _draw(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> None:
    from rich.console import Console  # 0.1 s that a pipe does without
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style="bold"), title_justify="left", box=None)
    for i, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if i < left else "right", style="" if i else "cyan")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(highlight=False)
    console.print()
    console.print(table)
