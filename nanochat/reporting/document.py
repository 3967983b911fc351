"""A report as plain data: sections of tables, plots, facts and texts, before it is Markdown or a page.

In: what a report is to say. Out: one structure that both forms are written from, so that they say the same. Every text
here is plain: whoever writes a form escapes it.
"""

from collections.abc import Sequence
from typing import Literal

import attrs

State = Literal["finished", "running", "stopped", "failed", "unfinished"]


@attrs.frozen(kw_only=True)
class Text:
    """A paragraph."""

    text: str


@attrs.frozen(kw_only=True)
class Table:
    """Rows under titles."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    """So many columns on the left are words; the others are numbers."""


@attrs.frozen(kw_only=True)
class Facts:
    """What is called what."""

    pairs: Sequence[tuple[str, str]]


@attrs.frozen(kw_only=True)
class Picture:
    """A plot, as an `<svg>` element: the one thing in a document that is not plain text."""

    svg: str
    caption: str


@attrs.frozen(kw_only=True)
class Pictures:
    """Plots side by side, where there is room."""

    pictures: Sequence[Picture]


@attrs.frozen(kw_only=True)
class Sample:
    """A text that a model went on with."""

    prompt: str
    completion: str


@attrs.frozen(kw_only=True)
class Turn:
    """What one side of a conversation says: parts of (kind, text), kind as in a conversation: text, python, …"""

    role: str
    parts: Sequence[tuple[str, str]]


@attrs.frozen(kw_only=True)
class Chat:
    """A conversation, and how it was judged."""

    task: str
    turns: Sequence[Turn]
    verdict: str
    """Empty where nobody judged it."""
    right: bool = False


@attrs.frozen(kw_only=True)
class Failure:
    """What went wrong."""

    title: str
    message: str
    help: str
    facts: Sequence[tuple[str, str]] = ()


Block = Text | Table | Facts | Pictures | Sample | Chat | Failure


@attrs.frozen(kw_only=True)
class Section:
    """Blocks under a title."""

    title: str
    blocks: Sequence[Block]


@attrs.frozen(kw_only=True)
class Document:
    """A whole report."""

    title: str
    kind: str
    """Run, stage or sweep."""
    name: str
    state: State
    summary: str
    """Its state in a sentence."""
    headlines: Sequence[tuple[str, str]]
    """The few figures that are looked for first: what, how much."""
    sections: Sequence[Section]


def sections(*found: tuple[str, Sequence[Block | None]]) -> list[Section]:
    """The sections that have something to say."""
    made = [Section(title=title, blocks=[block for block in blocks if block is not None]) for title, blocks in found]
    return [section for section in made if section.blocks]
