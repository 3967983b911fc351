"""170 MB of English and code to measure the tokenizer on: three packages of Debian's and Python's standard library.

Out: one file of documents of whole lines, about 10,000 characters each, every one behind its length in bytes (four
bytes, little-endian). Downloaded with apt-get and built once, into a folder that is kept.
"""

import gzip
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("dict-gcide", "wordnet-base", "linux-doc-6.1")
TEXT = {".dz", ".rst", ".yaml", ".txt", ".py", ".sh", ".verb", ".noun", ".adj", ".adv"}
DOCUMENT_CHARS = 10_000


def corpus(folder: Path) -> Path:
    """The file, which is built where it is missing. CalledProcessError where apt-get cannot download."""
    place = folder / "corpus.bin"
    if not place.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            partial = Path(scratch) / "corpus.bin"
            with partial.open("wb") as file:
                for text in _cut(_files(Path(scratch))):
                    content = text.encode()
                    file.write(len(content).to_bytes(4, "little") + content)
            partial.rename(place)
    return place


def documents(place: Path) -> Iterator[str]:
    """Its documents, read as they are asked for."""
    with place.open("rb") as file:
        while size := file.read(4):
            yield file.read(int.from_bytes(size, "little")).decode()


def _files(scratch: Path) -> Iterator[str]:
    subprocess.run(["apt-get", "download", *PACKAGES], cwd=scratch, check=True, capture_output=True)
    for package in sorted(scratch.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, scratch], check=True)
    library = Path(os.__file__).parent
    found = [path for path in library.rglob("*.py") if "site-packages" not in path.parts]
    for path in sorted((scratch / "usr").rglob("*")) + sorted(found):
        inner = path.with_suffix("") if path.suffix == ".gz" else path
        if path.is_file() and not path.is_symlink() and inner.suffix in TEXT:
            content = path.read_bytes()
            yield (gzip.decompress(content) if path.suffix in (".gz", ".dz") else content).decode(errors="replace")


def _cut(texts: Iterator[str]) -> Iterator[str]:
    for text in texts:
        lines: list[str] = []
        size = 0
        for line in text.splitlines(keepends=True):
            lines.append(line)
            size += len(line)
            if size >= DOCUMENT_CHARS:
                yield "".join(lines)
                lines, size = [], 0
        if lines:
            yield "".join(lines)
