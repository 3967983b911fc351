"""`nanochat explain WORD`: what an error code, a component or a key of a recipe means, and what to do about it."""

import itertools
import json
import shutil
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from nanochat.errors import CODES, did_you_mean, wrong_input

if TYPE_CHECKING:
    from nanochat.recipe.catalogue import Section  # at run time only where a key is asked for: a code is quicker

WIDEST = 100
"""Columns of a screen that are used; longer lines are hard to read."""


@click.command("explain")
@click.argument("word", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", is_flag=True, help="Print Markdown; without a WORD, every key of all that is installed.")
def command(word: str | None, as_json: bool, markdown: bool) -> None:
    """Say what WORD means: an error code (E102), a component (muon, eval:task), a kind (optimizer) or a key (muon.lr).

    Without a WORD, list the error codes.
    """
    if word is None and not markdown:
        _print_codes({code: CODES[code] for code in CODES}, as_json)
    elif word is not None and word.upper() in CODES:
        _print_codes({word.upper(): f"{CODES[word.upper()]}\n{_explanation(word.upper())}"}, as_json)
    elif markdown:
        from nanochat.cli.key_reference import markdown_text

        click.echo(markdown_text(_found(word)), nl=False)
    elif as_json:
        import attrs

        click.echo(json.dumps([attrs.asdict(section) for section in _found(word)], indent=2, ensure_ascii=False))
    else:
        click.echo("\n\n".join(_shown(section) for section in _found(word)))


def _print_codes(meanings: dict[str, str], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(meanings, indent=2, ensure_ascii=False))
        return
    for code, meaning in meanings.items():
        head, *more = meaning.split("\n")
        click.echo(
            "\n".join([*_wrapped(f"{code}: {head}" if more else f"{code}  {head}", "", "      "), *_prose(more)])
        )


def _prose(lines: Sequence[str]) -> list[str]:
    """Sentences filled anew for this screen; what is indented is an example, and blank lines part paragraphs."""
    filled: list[str] = []
    for example, block in itertools.groupby(lines, key=lambda line: not line or line.startswith(" ")):
        its = list(block)
        filled += its if example else _wrapped(" ".join(its), "")
    return filled


def _explanation(code: str) -> str:
    from nanochat.cli.explanations import EXPLANATIONS

    return EXPLANATIONS[code]


def _found(word: str | None) -> Sequence["Section"]:
    """The sections that a word names as a component or a kind, then those with a key of that name, with that alone."""
    from nanochat.recipe.catalogue import Catalogue
    from nanochat.registry import load_registry

    known = Catalogue(load_registry()).sections()
    if word is None:
        return known
    if word.startswith("stages."):  # a path as errors and `show` print it: the tables' names in it are the recipe's own
        word = word.rpartition(".")[2]
    kind, colon, name = word.rpartition(":")
    sections = [section for section in known if section.kind == kind or not colon]
    found = [section for section in sections if name in (section.name, section.kind)]
    if not (colon and found):
        found += [part for section in sections if (part := section.only(name)).keys and section not in found]
    if not found:
        names = {name for section in known for name in section.aliases()} | {*CODES}
        near = did_you_mean(word, names) or "`nanochat plugins` lists components, recipes/KEYS.md every key"
        raise wrong_input("E407", f"there is no error code, component or key called `{word}`", help=near)
    return found


def _shown(section: "Section") -> str:
    owner = f" ({section.distribution})" if section.distribution else ""
    first, *more = _wrapped(section.title + owner + (f": {section.doc}" if section.doc else ""), "")
    lines = [first.replace(section.title, click.style(section.title, bold=True)), *more, *_wrapped(section.where, "")]
    lines += _wrapped(f"its keys are not known: {section.fault}", "") if section.fault else []
    for key in section.keys:
        lines += ["", f"  {click.style(key.name, bold=True)}", *_wrapped(key.doc, "      ")]
        lines += [*_wrapped(key.facts, "      "), *_wrapped(key.derivation, "      ")]
    return "\n".join(lines)


def _wrapped(text: str, indent: str, further: str | None = None) -> list[str]:
    """Lines no wider than the screen; further: the indent of all but the first."""
    return textwrap.wrap(
        text,
        min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns),
        initial_indent=indent,
        subsequent_indent=indent if further is None else further,
        break_long_words=False,  # names and paths are copied whole
        break_on_hyphens=False,
    )
