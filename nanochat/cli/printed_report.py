"""A report on a terminal: the sections of report.md, their tables and sentences no wider than the screen.

In: a document. Out: lines on stdout. Not here: report.md itself, which a pipe is given as it is.
"""

import click

from nanochat.cli.sheet import print_pairs, print_table, print_text
from nanochat.printable import printable
from nanochat.reporting.as_markdown import block_text
from nanochat.reporting.document import Block, Document, Facts, Pictures, Table, Text


def print_report(document: Document, page: str) -> None:
    """page: the name of the file with the plots."""
    print_text(_line(document.title), bold=True)
    print_text(_line(f"{document.kind} {document.name}, {document.summary}"))
    print_pairs([(_line(what), _line(value)) for what, value in document.headlines], indent="  ")
    for section in document.sections:
        click.echo()
        print_text(_line(section.title), bold=True)
        for number, block in enumerate(section.blocks):
            if number:
                click.echo()
            _print(block, page)


def _print(block: Block, page: str) -> None:
    match block:
        case Text(text=text):
            print_text(_line(text))
        case Table(titles=titles, rows=rows, words=words):
            cells = [[_line(cell) for cell in row] for row in rows]
            print_table([_line(title) for title in titles], cells, words=None if words >= len(titles) else words)
        case Facts(pairs=pairs):
            print_pairs([(_line(what), _line(said)) for what, said in pairs])
        case Pictures(pictures=pictures):
            print_text(_line(f"Plots in {page}: {'; '.join(picture.caption for picture in pictures)}."))
        case _:  # what somebody wrote, as the Markdown has it: as code
            for line in block_text(block, page).splitlines():
                print_text(printable(line))


def _line(text: str) -> str:
    """One line, without what a terminal would take for an order."""
    return printable(" ".join(text.split()))
