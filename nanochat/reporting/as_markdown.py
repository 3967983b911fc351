"""A report as Markdown. In: a document. Out: text; of plots it says where they are. No text of a document can become
markup: what has a meaning in Markdown or HTML is escaped, and what a model wrote is indented as code."""

import re
from collections.abc import Sequence

from nanochat.markdown import table
from nanochat.reporting.document import Block, Chat, Document, Facts, Failure, Pictures, Sample, Table, Text

_MARKUP = re.compile(r"([\\`<\[\]])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def as_markdown(document: Document, page: str) -> str:
    """page: the name of the file with the plots."""
    parts = [f"# {safe(document.title)}", f"{document.kind} {safe(document.name)}, {safe(document.summary)}"]
    if document.headlines:
        parts.append("\n".join(f"- {safe(what)}: {safe(value)}" for what, value in document.headlines))
    for section in document.sections:
        parts.append(f"## {safe(section.title)}")
        parts += [block_text(block, page) for block in section.blocks]
    return "\n\n".join(part for part in parts if part) + "\n"


def safe(text: str) -> str:
    """One line, without markup."""
    return _MARKUP.sub(r"\\\1", _CONTROL.sub("", " ".join(text.split())))


def block_text(block: Block, page: str) -> str:
    """One block. page: the name of the file with the plots."""
    match block:
        case Text(text=text):
            return safe(text)
        case Table(titles=titles, rows=rows):
            return table([safe(title) for title in titles], [[safe(cell) for cell in row] for row in rows])
        case Facts(pairs=pairs):
            return "\n".join(f"- {safe(what)}: {safe(said)}" for what, said in pairs)
        case Pictures(pictures=pictures):
            return f"Plots in {page}: {'; '.join(safe(picture.caption) for picture in pictures)}."
        case Sample(prompt=prompt, completion=completion):
            return _indented([*f"> {prompt}".splitlines(), "", *completion.splitlines()])
        case Chat():
            return _chat(block)
        case Failure():
            return _failure(block)


def _chat(chat: Chat) -> str:
    lines = [f"[{chat.task}{': ' if chat.verdict else ''}{chat.verdict}]"]
    for turn in chat.turns:
        said = "".join(text if kind == "text" else f"⟨{text}⟩" for kind, text in turn.parts)
        lines += [f"{turn.role}:", *(f"  {line}" for line in said.splitlines())]
    return _indented(lines)


def _failure(failure: Failure) -> str:
    parts = [safe(failure.title), _indented(failure.message.splitlines())]
    if failure.help:
        parts += ["What to do:", _indented(failure.help.splitlines())]
    parts.append("\n".join(f"- {safe(what)}: {safe(said)}" for what, said in failure.facts))
    return "\n\n".join(part for part in parts if part)


def _indented(lines: Sequence[str]) -> str:
    """As code: nothing in it means anything."""
    return "\n".join(f"    {_CONTROL.sub('', line)}".rstrip() for line in lines)
