"""Tables and sizes as the commands print them: fitted to a terminal, whole in a pipe."""

import sys
from collections.abc import Sequence

import click

from nanochat.running.report import table

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table. On a terminal its cells wrap, the first column excepted: it holds names to be copied."""
    if not sys.stdout.isatty():
        click.echo(table(titles, rows))
        return
    from rich.console import Console  # 0.1 s that a pipe does without
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False)
    for number, title in enumerate(titles):
        drawn.add_column(title, no_wrap=number == 0, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(drawn)


def size(count: float) -> str:
    """Bytes as a person reads them: 512 bytes, 12.3 MiB."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.1f} {_UNITS[unit]}" if unit else f"{count:.0f} {_UNITS[unit]}"
