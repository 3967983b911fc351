"""A report as one HTML file that needs no other: style and plots are in it, no script, nothing is fetched.

In: a document. Out: the page. All text is escaped here, once for each place where it goes; plots alone are markup.
"""

import html
import re
from collections.abc import Sequence
from pathlib import Path

from nanochat.reporting.document import (
    Block,
    Chat,
    Document,
    Facts,
    Failure,
    Pictures,
    Sample,
    Section,
    Table,
    Text,
)
from nanochat.reporting.svg import page_colours

STYLE = Path(__file__).parent / "report.css"
REFRESH_SECONDS = 30
"""How often the page of a run that is going on reads itself again."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Whatever were to come into the page, no script runs and nothing is loaded."""


def as_page(document: Document) -> str:
    """The whole page."""
    style = f":root {{\n{page_colours()}\n}}\n{STYLE.read_text(encoding='utf-8')}"
    again = f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">\n' if document.state == "running" else ""
    anchors = [_anchor(section.title) for section in document.sections]
    links = "".join(
        f'<li><a href="#{anchor}">{escaped(section.title)}</a></li>'
        for anchor, section in zip(anchors, document.sections, strict=True)
    )
    body = "\n".join(_section(section, anchor) for anchor, section in zip(anchors, document.sections, strict=True))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
{again}<title>{escaped(document.title)} · {escaped(document.kind.lower())} report</title>
<style>
{style}</style>
</head>
<body>
<header>
<p class="kind">{escaped(document.kind)} <code>{escaped(document.name)}</code></p>
<h1>{escaped(document.title)}</h1>
<p class="state {document.state}">{escaped(document.summary)}</p>
{_headlines(document)}</header>
<nav aria-label="Sections"><ul>{links}</ul></nav>
<main>
{body}
</main>
<footer>Written by nanochat from the run's own files. ± is a standard error, unless it says otherwise.</footer>
</body>
</html>
"""


def escaped(text: str) -> str:
    """Text for any place in a page."""
    return html.escape(_CONTROL.sub("", text))


def _headlines(document: Document) -> str:
    if not document.headlines:
        return ""
    cards = "".join(
        f"<div><dt>{escaped(what)}</dt><dd>{escaped(value)}</dd></div>" for what, value in document.headlines
    )
    return f'<dl class="headlines">{cards}</dl>\n'


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _section(section: Section, anchor: str) -> str:
    blocks = "\n".join(map(_block, section.blocks))
    if section.blocks and all(isinstance(block, Chat | Sample) for block in section.blocks):
        blocks = f'<div class="chats">{blocks}</div>'
    heading = f'<h2 id="{anchor}-title">{escaped(section.title)}</h2>'
    return f'<section id="{anchor}" aria-labelledby="{anchor}-title">\n{heading}\n{blocks}\n</section>'


def _block(block: Block) -> str:
    match block:
        case Text(text=text):
            return f"<p>{escaped(text)}</p>"
        case Table():
            return _table(block)
        case Facts(pairs=pairs):
            return f'<dl class="facts">{"".join(f"<dt>{escaped(a)}</dt><dd>{escaped(b)}</dd>" for a, b in pairs)}</dl>'
        case Pictures(pictures=pictures):
            drawn = (
                f"<figure>{picture.svg}<figcaption>{escaped(picture.caption)}</figcaption></figure>"
                for picture in pictures
            )
            return f'<div class="plots">{"".join(drawn)}</div>'
        case Sample(prompt=prompt, completion=completion):
            return f'<blockquote class="sample"><b>{escaped(prompt)}</b>{escaped(completion)}</blockquote>'
        case Chat():
            return _chat(block)
        case Failure():
            return _failure(block)


def _table(table: Table) -> str:
    """Wider than a phone, it moves within a frame that a keyboard reaches."""

    def row(cells: Sequence[str]) -> str:
        first, *rest = cells
        others = (
            f"<td{'' if place < table.words else ' class=number'}>{escaped(cell)}</td>"
            for place, cell in enumerate(rest, 1)
        )
        return f'<tr><th scope="row">{escaped(first)}</th>{"".join(others)}</tr>'

    titles = "".join(
        f'<th scope="col"{"" if place < table.words else " class=number"}>{escaped(title)}</th>'
        for place, title in enumerate(table.titles)
    )
    named = f'role="region" aria-label="table: {escaped(", ".join(table.titles[:4]))}" tabindex="0"'
    body = "\n".join(map(row, table.rows))
    head = f"<thead><tr>{titles}</tr></thead>"
    return f'<div class="scroll" {named}><table>\n{head}\n<tbody>\n{body}\n</tbody></table></div>'


def _chat(chat: Chat) -> str:
    turns = "".join(
        f'<div class="turn {"user" if turn.role == "user" else "model"}"><span class="role">{escaped(turn.role)}</span>'
        f"{''.join(_part(kind, text) for kind, text in turn.parts)}</div>"
        for turn in chat.turns
    )
    verdict = (
        f'<span class="verdict {"right" if chat.right else "wrong"}">{escaped(chat.verdict)}</span>'
        if chat.verdict
        else ""
    )
    return f'<article class="chat"><p class="task">{escaped(chat.task)}{verdict}</p>{turns}</article>'


def _part(kind: str, text: str) -> str:
    name = {"python": "tool call", "python_output": "tool result"}.get(kind)
    return (
        f"<span>{escaped(text)}</span>" if name is None else f'<code class="tool" title="{name}">{escaped(text)}</code>'
    )


def _failure(failure: Failure) -> str:
    facts = "".join(f"<dt>{escaped(what)}</dt><dd>{escaped(said)}</dd>" for what, said in failure.facts)
    advice = f'<p><b>What to do:</b> <span class="lines">{escaped(failure.help)}</span></p>' if failure.help else ""
    return (
        f'<div class="failure"><p><b>{escaped(failure.title)}</b></p><pre tabindex="0">{escaped(failure.message)}</pre>'
        f"{advice}{f'<dl class=facts>{facts}</dl>' if facts else ''}</div>"
    )
