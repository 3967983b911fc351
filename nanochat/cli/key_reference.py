"""The reference of every key as Markdown: recipes/KEYS.md, which `nanochat explain --markdown` prints.

In: sections of the catalogue. Out: a heading and a table for each.
"""

from collections.abc import Sequence

from nanochat.recipe.catalogue import Key, Section
from nanochat.recipe.notation import SHOWN_CHARACTERS

HEAD = """\
# Every key of a recipe

Printed by `nanochat explain --markdown`; do not edit it. The language is explained in [README.md](README.md), and
`nanochat explain muon` or `nanochat explain muon.lr` shows a part of this in the terminal.

*Identity* keys decide a stage's result, and so its key in the store; *execution* keys never do. Wherever a value or a
table is wanted, `{ from = "stages.a.b" }` takes one from elsewhere in the recipe. Where a default is `"auto"`, the rule
that fills it is said below it.
"""
_COLUMNS = "| key | type | default | | meaning |\n| --- | --- | --- | --- | --- |"


def markdown_text(sections: Sequence[Section]) -> str:
    """The document."""
    return "\n".join([HEAD, *(_section(section) for section in sections)])


def _section(section: Section) -> str:
    heading = f"## {section.title[0].upper()}{section.title[1:]}"
    about = " ".join(part for part in (section.doc, section.where) if part)
    rows = [_row(key) for key in section.keys]
    table = "\n".join([_COLUMNS, *rows]) if rows else ""
    parts = (heading, about, f"Its keys are not known: {section.fault}" if section.fault else "", table)
    return "\n\n".join(part for part in parts if part) + "\n"


def _row(key: Key) -> str:
    default = "required" if key.required else _code(key.default)
    meaning = key.doc + (f"<br>{key.derivation}" if key.rule else "")
    return _cells(f"`{key.name}`", key.kind, default, key.role_text, meaning)


def _code(value: str) -> str:
    """A value between backticks, cut where it is long."""
    shown = value if len(value) <= SHOWN_CHARACTERS else value[: SHOWN_CHARACTERS - 1] + "…"
    ticks = "``" if "`" in shown else "`"
    return f"{ticks}{shown}{ticks}" if shown else ""


def _cells(*cells: str) -> str:
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"
