"""`nanochat explain WORD`: what an error code, a component, a key, a derivation or a hook means."""

import itertools
import json
import shutil
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from nanochat.errors import CODES, did_you_mean, wrong_input

if TYPE_CHECKING:
    # At run time only where more than a code is asked for: a code is quicker.
    from nanochat.cli.topic import Topic
    from nanochat.recipe.catalogue import Section

WIDEST = 100
"""Columns of a screen that are used; longer lines are hard to read."""


@click.command("explain")
@click.argument("word", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", is_flag=True, help="Print Markdown; without a WORD, every key of all that is installed.")
def command(word: str | None, as_json: bool, markdown: bool) -> None:
    """Say what WORD means: an error code (E102), a component (muon, eval:task), a kind (optimizer), a key (muon.lr),
    a derivation (gpt.dim) or a hook (on_step).

    Without a WORD, list what can be explained.
    """
    if word is not None and word.upper() in CODES:
        _print_code(word.upper(), as_json)
    elif markdown:
        from nanochat.cli.key_reference import markdown_text

        known = _Known.now()
        if word is not None:
            known.found(word)  # or an error
        click.echo(markdown_text(known.sections_of(word)), nl=False)
    elif word is None:
        _print_names(_Known.now(), as_json)
    elif as_json:
        import attrs

        click.echo(json.dumps([attrs.asdict(one) for one in _Known.now().found(word)], indent=2, ensure_ascii=False))
    else:
        from nanochat.recipe.catalogue import Section

        found = _Known.now().found(word)
        click.echo("\n\n".join(_shown(one) if isinstance(one, Section) else _shown_topic(one) for one in found))


def _print_code(code: str, as_json: bool) -> None:
    from nanochat.cli.explanations import EXPLANATIONS

    if as_json:
        click.echo(json.dumps({code: f"{CODES[code]}\n{EXPLANATIONS[code]}"}, indent=2, ensure_ascii=False))
    else:
        head = _wrapped(f"{code}: {CODES[code]}", "", "      ")
        click.echo("\n".join([*head, *_prose(EXPLANATIONS[code].split("\n"))]))


def _prose(lines: Sequence[str]) -> list[str]:
    """Sentences filled anew for this screen; what is indented is an example, and blank lines part paragraphs."""
    filled: list[str] = []
    for example, block in itertools.groupby(lines, key=lambda line: not line or line.startswith(" ")):
        its = list(block)
        filled += its if example else _wrapped(" ".join(its), "")
    return filled


def _print_names(known: "_Known", as_json: bool) -> None:
    """All that can be explained: the codes with their meaning, the rest by name."""
    names = known.names()
    if as_json:
        click.echo(json.dumps({"codes": CODES, **names}, indent=2, ensure_ascii=False))
        return
    click.echo("\n".join(line for code in CODES for line in _wrapped(f"{code}  {CODES[code]}", "", "      ")))
    for kind, its in names.items():
        first, *more = _wrapped(f"{kind}: {', '.join(its)}", "")
        click.echo("\n" + "\n".join([first.replace(kind, click.style(kind, bold=True), 1), *more]))
    click.echo("\nand every key of a recipe by its name: `nanochat explain muon.lr`; recipes/KEYS.md lists them")


class _Known:
    """All that is known by name beside the codes: the catalogue's sections, derivations, hooks."""

    def __init__(self, sections: Sequence["Section"], topics: Sequence["Topic"]) -> None:
        self.sections, self.topics = sections, topics

    @classmethod
    def now(cls) -> "_Known":
        """Of what is installed."""
        from nanochat.cli.topic import derivation_topics, hook_topics
        from nanochat.recipe.catalogue import Catalogue
        from nanochat.registry import load_registry

        registry = load_registry()
        sections = Catalogue(registry).sections()
        return cls(sections, [*derivation_topics(registry, sections), *hook_topics()])

    def names(self) -> dict[str, list[str]]:
        """Kind → the names of that kind."""
        found: dict[str, list[str]] = {}
        everything: list[Section | Topic] = [*self.sections, *self.topics]
        for one in everything:
            if one.kind not in ("recipe", "hardware", "slot"):
                found.setdefault(one.kind, []).append(one.name)
        return found

    def sections_of(self, word: str | None) -> Sequence["Section"]:
        """The sections that a word names as a component or a kind, then those with a key of that name, that alone."""
        if word is None:
            return self.sections
        if word.startswith("stages."):  # a path as errors and `show` print it: its tables' names are the recipe's own
            word = word.rpartition(".")[2]
        kind, name = self._parted(word)
        sections = [section for section in self.sections if kind in ("", section.kind)]
        found = [section for section in sections if name in (section.name, section.kind)]
        if not (kind and found):
            found += [part for section in sections if (part := section.only(name)).keys and section not in found]
        return found

    def _parted(self, word: str) -> tuple[str, str]:
        """`eval:task` as kind and name; of `torch:SGD`, which is all a name, no kind."""
        kind, _, name = word.partition(":")
        known = {section.kind for section in self.sections} | {topic.kind for topic in self.topics}
        return (kind, name) if name and kind in known else ("", word)

    def found(self, word: str) -> Sequence["Section | Topic"]:
        """Everything that a word means. InputError E407 where it means nothing."""
        kind, name = self._parted(word)
        found: list[Section | Topic] = [*self.sections_of(word)]
        found += [topic for topic in self.topics if topic.answers(kind, name)]
        if not found:
            names = {name for section in self.sections for name in section.aliases()} | {*CODES}
            names |= {name for topic in self.topics for name in (topic.name, topic.kind)}
            near = did_you_mean(word, names) or "`nanochat explain` lists what there is, recipes/KEYS.md every key"
            message = f"there is no error code, component, key, derivation or hook called `{word}`"
            raise wrong_input("E407", message, help=near)
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


def _shown_topic(topic: "Topic") -> str:
    owner = f" ({topic.distribution})" if topic.distribution else ""
    lines = [click.style(topic.title, bold=True) + owner]
    lines += [f"  {topic.signature}"] if topic.signature else []
    for paragraph in topic.doc.split("\n\n"):
        lines += ["", *_wrapped(" ".join(paragraph.split()), "  ")] if topic.signature else _wrapped(paragraph, "  ")
    lines += _wrapped(f"from {', '.join(topic.inputs)}", "  ") if topic.inputs else []
    lines += _wrapped(f'fills "auto" in {", ".join(topic.fills)}', "  ") if topic.fills else []
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
