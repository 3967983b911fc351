"""The source `pydocs`: English prose that is on every machine, from the Python that runs it.

In: the standard library's .py files, parsed and never imported, and pydoc's topics. Out: one document for each
docstring of a module, class or function and for each topic, without duplicates, in an order fixed for one Python
version. CPython 3.11.7 gives 6,691 documents, 2,096,921 characters, in 3.5 s, by

    python -c "from nanochat_plugins.sources.pydocs import library_documents as d; print(len(d()), sum(map(len, d())))"

What was extracted is kept below the data folder with its digest. Not here: comments, code, tests.
"""

import ast
import contextlib
import hashlib
import inspect
import json
import platform
import random
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from nanochat.config import Fingerprinted, config, option
from nanochat.data.source import Shard, Split
from nanochat.durable import replace_content
from nanochat.home import data_dir
from nanochat_plugins.sources.held_out import split_of

EXTRACTOR = 1
"""Raise it when what is extracted changes: it is part of the fingerprint and of the kept file's name."""
CHARACTERS = 2_100_000
"""About, of any CPython's library."""
ORDER_SEED = 1991
MINIMUM_CHARS = 40  # shorter ones are labels: "Return the name."
MINIMUM_PROSE = 0.7  # letters and spaces; below it are tables, signatures and drawings
NO_PROSE = frozenset(
    # Tests, what is no part of the library, and eighty codecs that differ in one number of their one sentence.
    {"test", "tests", "idle_test", "lib2to3", "ensurepip", "encodings", "site-packages", "dist-packages", "__pycache__"}
)


@config
class PyDocsConfig(Fingerprinted):
    """Docstrings and topics of the running interpreter's library: two million characters of English that are on every
    machine. Take them for a first run, or to try something out without a download.
    """

    validation_share: float = option(
        0.03, minimum=0.0, maximum=0.5, doc="share of the documents held out, by their text"
    )

    def fingerprint(self) -> Mapping[str, Any]:
        """The interpreter stands for its library."""
        return {"python": _interpreter(), "extractor": EXTRACTOR}

    def characters(self) -> int:
        """Of the training split, about."""
        return round(CHARACTERS * (1 - self.validation_share))


class PyDocs:
    """The documents of the running interpreter, one shard a split."""

    def __init__(self, config: PyDocsConfig) -> None:
        self._share = config.validation_share

    @cached_property
    def _documents(self) -> Mapping[str, Sequence[str]]:
        splits: dict[str, list[str]] = {"train": [], "validation": []}
        for text in library_documents():
            splits[split_of(text, self._share)].append(text)
        return splits

    def shards(self, split: Split) -> Sequence[Shard]:
        content = [text.encode() for text in self._documents[split]]
        digest = hashlib.sha256(b"\0".join(content)).hexdigest()
        return [Shard(name=split, size_bytes=sum(map(len, content)), digest=digest)]

    def documents(self, shard: Shard, start: int = 0) -> Iterator[str]:
        return iter(self._documents[shard.name][start:])

    def skipped(self) -> Mapping[str, int]:
        return {}


def library_documents() -> list[str]:
    """Every document, from the kept file, or extracted now (a few seconds) and kept."""
    library = sysconfig.get_path("stdlib")
    # Two builds of one version may hold different parts of the library (a distribution may leave tkinter out).
    build = hashlib.sha256(library.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    place = data_dir() / "pydocs" / f"{_interpreter()}-{build}-{EXTRACTOR}.json"
    kept = _read_kept(place)
    if kept is None:
        kept = extract(Path(library))
        with contextlib.suppress(OSError):  # it can be extracted again
            _keep(place, kept)
    return kept


def extract(library: Path) -> list[str]:
    """The documents of a library folder: by module path, without duplicates, then mixed by a fixed seed."""
    texts: dict[str, None] = {}
    for path in sorted(library.rglob("*.py"), key=lambda path: path.relative_to(library).parts):
        if NO_PROSE.isdisjoint(path.relative_to(library).parts):
            texts.update(dict.fromkeys(_docstrings(path)))
    texts.update(dict.fromkeys(_topics()))
    mixed = [text for text in texts if _is_prose(text)]
    random.Random(ORDER_SEED).shuffle(mixed)
    return mixed


def _docstrings(path: Path) -> Iterator[str]:
    """The docstrings of one file, outer ones first; none from a file that is no Python of this version."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text:
                yield _tidy(text)


def _topics() -> Iterator[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # a distribution may leave them out
        return
    for name in sorted(topics):
        yield _tidy(topics[name])


def _tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in inspect.cleandoc(text).splitlines()).strip()


def _is_prose(text: str) -> bool:
    """Long enough, mostly words, and without half a surrogate pair, which has no bytes."""
    if len(text) < MINIMUM_CHARS or any("\ud800" <= char <= "\udfff" for char in text):
        return False
    return sum(char.isalpha() or char.isspace() for char in text) >= MINIMUM_PROSE * len(text)


def _interpreter() -> str:
    return f"{sys.implementation.name}-{platform.python_version()}"


def _keep(place: Path, texts: Sequence[str]) -> None:
    """One line with the sha256 of the rest, then a JSON list."""
    content = json.dumps(texts).encode()
    place.parent.mkdir(parents=True, exist_ok=True)
    replace_content(place, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def _read_kept(place: Path) -> list[str] | None:
    """The kept documents; None where there are none, or they are not what was written."""
    try:
        digest, _, content = place.read_bytes().partition(b"\n")
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest().encode() != digest:
        return None
    texts: list[str] = json.loads(content)
    return texts
