"""tokenizer.json: a vocabulary on disk, in a format of our own.

In and out: a Vocabulary. The file is JSON: format version, split pattern, tokens (base64 of their bytes, in the order
of their ids), specials (their ids follow), and the sha256 of all that; and, where
another package than ours encodes with it, which. Nothing is unpickled. Not here: encoding.
"""

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from nanochat.errors import InputError, wrong_input
from nanochat.text.special import Implementation

FILE_NAME = "tokenizer.json"
FORMAT = 1


@attrs.frozen(kw_only=True)
class Vocabulary:
    """What there is to know of a tokenizer."""

    pattern: str
    tokens: tuple[bytes, ...]
    """The single bytes first, then what was merged; a token's id is its place."""
    specials: tuple[str, ...]
    """Their ids follow the tokens'."""
    implementation: Implementation = "rust"
    """Which package encodes with it (encoders.py); in the file where it is another than ours."""

    @property
    def digest(self) -> str:
        """sha256, in hex, of the file's content."""
        return _digest(self._content())

    def write(self, folder: Path) -> None:
        """Write the file into a folder, which is made where it is missing. A reader sees all of it or nothing."""
        content = self._content()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE_NAME
        temporary = path.with_suffix(".json.partial")
        try:
            with temporary.open("w", encoding="ascii") as file:
                json.dump(content | {"sha256": _digest(content)}, file, indent=0)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = {
            "format": FORMAT,
            "pattern": self.pattern,
            "specials": list(self.specials),
            "tokens": [base64.b64encode(token).decode() for token in self.tokens],
        }
        return content if self.implementation == "rust" else content | {"implementation": self.implementation}


def read_vocabulary(folder: Path) -> Vocabulary:
    """Read the file in a folder. InputError E307 where it is missing, damaged or of another format."""
    return read_vocabulary_file(folder / FILE_NAME)


def read_vocabulary_file(path: Path) -> Vocabulary:
    """The same, of a file that may be called otherwise."""
    content = _parse(path)
    if "format" in content and content["format"] != FORMAT:
        raise _broken(path, f"has format {content['format']!r}, and this version reads format {FORMAT}")
    if content.pop("sha256", None) != _digest(content):
        raise _broken(path, "does not match its own sha256: it was cut off, damaged or edited")
    try:
        return Vocabulary(
            pattern=content["pattern"],
            tokens=tuple(base64.b64decode(token, validate=True) for token in content["tokens"]),
            specials=_specials(content["specials"]),
            implementation=content.get("implementation", "rust"),
        )
    except (KeyError, TypeError, ValueError) as error:  # what b64decode raises is a ValueError too
        raise _broken(path, f"is no tokenizer of ours ({type(error).__name__}: {error})") from error


def broken_vocabulary(folder: Path, reason: str) -> InputError:
    """The error for a file that was read and cannot be used."""
    return _broken(folder / FILE_NAME, reason)


def _specials(found: list[Any]) -> tuple[str, ...]:
    """TypeError, ValueError where they are no strings, or one is there twice: an id would have no name of its own."""
    seen: dict[str, None] = {}
    for token in found:
        if not isinstance(token, str):
            raise TypeError(f"the special {token!r} is no string")
        if token in seen:
            raise ValueError(f"the special {token!r} is there twice")
        seen[token] = None
    return tuple(seen)


def _parse(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise _broken(path, f"cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise _broken(path, "is no JSON: it was cut off or damaged") from error
    if not isinstance(content, dict):
        raise _broken(path, "is no tokenizer of ours")
    return content


def _broken(path: Path, reason: str) -> InputError:
    return wrong_input(
        "E307",
        f"the tokenizer file {path} {reason}",
        help="copy it again from where it came, or train it anew: `nanochat-run RECIPE --fresh STAGE`",
    )


def _digest(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
