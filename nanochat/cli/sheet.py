"""Words and tables on the screen: aligned columns; on a terminal too narrow for them, each row as a paragraph.

In: titles and rows of text. Out: lines on stdout, coloured on a terminal. In a pipe nothing is wrapped, so that one row
stays one line for grep and cut. Not here: what stands in the cells.
"""

import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence

import click

NARROWEST = 24
"""Characters that a column of sentences is wrapped to at least; with fewer, the row is a paragraph."""
_KEPT_SPACE = "\N{NO-BREAK SPACE}"  # textwrap breaks lines at ASCII's white space alone


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    words: int | None = None,
    heads: int = 1,
    indent: str = "",
    colours: Mapping[str, str] | None = None,
) -> None:
    """Aligned columns; of a narrow terminal the last one wrapped where it is words, else a paragraph a row.

    words: the first so many columns are words, the others numbers; None: all. A cell of the last column may have
    several lines. heads: how many cells a paragraph begins with. colours: what a cell says → its colour.
    """
    wraps = words is None
    words = len(columns) if words is None else words
    widths = [max(len(line) for row in [columns, *rows] for line in row[i].split("\n")) for i in range(len(columns))]
    before, room = len(indent) + sum(widths[:-1]) + 2 * (len(widths) - 1), _room()
    narrowest = max(NARROWEST, *(_longest_word(row[-1]) for row in rows)) if rows else NARROWEST
    if before + widths[-1] > room and not (wraps and room - before >= narrowest):
        for row in rows:
            click.echo("\n".join(_paragraph(columns, row, heads, room, indent)))
        return
    click.secho(indent + _line(columns, widths, words), dim=True)
    for row in rows:
        first, *more = wrapped(row[-1], room - before) if wraps else [row[-1]]
        click.echo(indent + _line([*row[:-1], first], widths, words, colours or {}))
        for line in more:
            click.echo(" " * before + line)


def print_sheet(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """A title and a table whose first `left` columns are words, the others numbers. Nothing where no row is."""
    if not rows:
        return
    click.echo()
    print_text(title, bold=True)
    print_table(columns, rows, words=left, heads=left, indent="  ")


def print_text(text: str, *, indent: str = "", **style: bool | str) -> None:
    """A sentence, wrapped on a terminal, its later lines indented further."""
    first, *more = wrapped(text, _room() - len(indent) - 2)
    for line in [indent + first, *(f"{indent}  {line}" for line in more)]:
        click.secho(line, **style)  # type: ignore[arg-type]


def print_pairs(pairs: Iterable[tuple[str, str]], *, indent: str = "", widest: int = 56) -> None:
    """Names, and beside each what is said of it; below it, where the terminal has no room for both.

    widest: a longer name moves its own text alone.
    """
    listed = list(pairs)
    room = _room()
    width = max((len(name) for name, _ in listed if len(name) <= widest), default=0)
    beside = room - len(indent) - width - 2
    for name, text in listed:
        if beside >= max(NARROWEST, _longest_word(text)) and (len(name) <= width or room == _ENDLESS):
            first, *more = wrapped(text, beside)
            click.echo(f"{indent}{name:<{width}}  {first}".rstrip())
            further = " " * (len(indent) + width + 2)
        else:
            click.echo(indent + name)
            further, more = indent + "    ", wrapped(text, room - len(indent) - 4)
        for line in more:
            click.echo(further + line)


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width`; words, names and paths stay whole. A text's own lines stay apart."""
    return [
        part
        for line in text.split("\n")
        for part in textwrap.wrap(
            line, max(1, width), subsequent_indent=_own_indent(line), break_long_words=False, break_on_hyphens=False
        )
        or [""]
    ]


_ENDLESS = 10**9
"""Columns of a pipe."""


def _room() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _ENDLESS


def _longest_word(text: str) -> int:
    return max(map(len, text.split()), default=0)


def _own_indent(line: str) -> str:
    return " " * (len(line) - len(line.lstrip(" ")))


def _line(cells: Sequence[str], widths: Sequence[int], words: int, colours: Mapping[str, str] | None = None) -> str:
    aligned = [
        cell.ljust(width) if i < words else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    aligned[-1] = aligned[-1].rstrip()
    return "  ".join(
        click.style(text, fg=(colours or {}).get(cell)) if cell in (colours or {}) else text
        for text, cell in zip(aligned, cells, strict=True)
    ).rstrip()


def _paragraph(columns: Sequence[str], row: Sequence[str], heads: int, room: int, indent: str) -> list[str]:
    """tok tokenizer: parameters 561 M · tokens 2 G. A figure stays beside its name where a line holds both."""
    own, *below = row[-1].split("\n")
    cells = [*row[heads:-1], own]
    figures = [f"{column} {cell}" for column, cell in zip(columns[heads:], cells, strict=True) if cell]
    whole = room - len(indent) - 4
    kept = [figure.replace(" ", _KEPT_SPACE) if len(figure) <= whole else figure for figure in figures]
    lines = wrapped(f"{' '.join(row[:heads])}: {f'{_KEPT_SPACE}· '.join(kept)}", room - len(indent) - 2)
    lines += [part for line in below for part in wrapped(line, room - len(indent) - 2)]
    first, *more = [line.replace(_KEPT_SPACE, " ") for line in lines]
    return [indent + first, *(f"{indent}  {line}" for line in more)]
