"""A new plugin distribution: the files of a template, filled in.

In: a name, a kind, a folder that is not there yet. Out: that folder, with a distribution that installs, passes its own
test and runs its own recipe. Templates are real distributions of a component called `newcomer`; to fill one is to
replace that word. Not here: what the component does; that is the author's.
"""

import keyword
import re
import shutil
import tempfile
from pathlib import Path

import attrs

from nanochat.errors import wrong_input
from nanochat.registry import Registry, normal_name

TEMPLATES = Path(__file__).parent / "templates"
COMMON = "common"
"""The files that all kinds share; KIND in them is the kind."""
KINDS = ("task", "source", "optimizer", "eval", "tool")
LONGEST = 40
_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


@attrs.frozen
class Name:
    """What one name becomes in the places where it is used: "word-games"."""

    hyphened: str

    @property
    def distribution(self) -> str:
        """nanochat-word-games."""
        return f"nanochat-{self.hyphened}"

    @property
    def component(self) -> str:
        """word_games: what a recipe calls it, and the package after `nanochat_`."""
        return self.hyphened.replace("-", "_")

    @property
    def cls(self) -> str:
        """WordGames."""
        return "".join(word.capitalize() for word in self.hyphened.split("-"))

    def fill(self, text: str, kind: str) -> str:
        """A template's text, or a path in it, under this name."""
        for placeholder, value in (
            ("nanochat-newcomer", self.distribution),
            ("newcomer", self.component),
            ("Newcomer", self.cls),
            ("KIND", kind),
        ):
            text = text.replace(placeholder, value)
        return text


def parse_name(text: str) -> Name:
    """InputError E407 for what is no name: `Word_Games` and `nanochat-word-games` are `word-games`."""
    hyphened = normal_name(text).removeprefix("nanochat-")
    name = Name(hyphened)
    valid = _NAME.fullmatch(hyphened) and len(hyphened) <= LONGEST
    if not valid or keyword.iskeyword(name.cls) or keyword.iskeyword(name.component):
        raise wrong_input(
            "E407",
            f"{text!r} is no name for a plugin",
            help=f"letters a to z, digits and hyphens, a letter first, at most {LONGEST}, no keyword: word-games",
        )
    return name


def check_free(name: Name, kind: str, registry: Registry) -> None:
    """InputError E407 where an installed plugin has the name already."""
    owners = [p.distribution for p in registry.plugins if normal_name(p.distribution) == name.distribution]
    owners += [
        e.distribution for p in registry.plugins for e in p.components if (e.kind, e.name) == (kind, name.component)
    ]
    if owners:
        raise wrong_input(
            "E407",
            f"the name `{name.component}` is taken by the installed distribution `{owners[0]}`",
            help="choose another name; `nanochat plugins` lists those that are taken",
        )


def make_distribution(name: Name, kind: str, folder: Path) -> list[Path]:
    """Write the distribution, whole or not at all. Returns its files, relative to the folder. InputError E407."""
    if folder.exists():
        raise wrong_input("E407", f"{folder} is there already", help="nothing was changed; choose another --output")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-plugin-") as made:
        written = sorted(
            _write(template, name.fill(str(template.relative_to(root)), kind), Path(made, "new"), name, kind)
            for root in (TEMPLATES / COMMON, TEMPLATES / kind)
            for template in root.rglob("*")
            if template.is_file() and not any(part.startswith((".", "__pycache__")) for part in _inner(template))
        )
        shutil.move(Path(made, "new"), folder)
    return written


def _inner(template: Path) -> tuple[str, ...]:
    """The parts of a template's path below the templates: tools leave caches beside what they read."""
    return template.relative_to(TEMPLATES).parts


def _write(template: Path, place: str, folder: Path, name: Name, kind: str) -> Path:
    """Fill one file in. Returns its place in the distribution."""
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name.fill(template.read_text(encoding="utf-8"), kind), encoding="utf-8")
    return Path(place)
