"""Artifacts that no stage of the recipe makes: `path:` folders and `store:` keys, and what they record of themselves.

In: a reference. Out: the folder, the kinds of artifact it can serve as, and values of the configs it was made with.
Reads small files only; weights are never opened.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from nanochat.config import revived
from nanochat.home import store_dir
from nanochat.registry import Registry

CHECKPOINT_FILE = "meta.json"
TOKENIZER_FILE = "tokenizer.json"
RECORD_FILE = "record.json"
KEY_CHARACTERS = 8
"""How much of a key stands in the name of a folder of the store, and the least that names one."""
_NO_RECORD = (OSError, ValueError, KeyError, TypeError, RecursionError)
"""What a folder without a record raises, and a record that others wrote."""


class NotRecorded(Exception):
    """The artifact does not say what is asked of it."""


def artifact_in(folder: Path) -> Path:
    """The artifact of a folder: itself, or where the record of a finished stage says that it lies."""
    try:
        record = json.loads((folder / RECORD_FILE).read_bytes())
        return folder / str(record["artifact"])
    except _NO_RECORD:
        return folder


@attrs.frozen(kw_only=True)
class Stored:
    """What a finished stage left in the store."""

    key: str
    """The whole key."""
    folder: Path
    """Where its artifact lies."""
    produces: str
    """The kind of artifact that it is."""


def stored(key: str) -> list[Stored]:
    """The finished results whose key begins so; `key` has KEY_CHARACTERS at least."""
    found = []
    for folder in sorted(store_dir().glob(f"*-{key[:KEY_CHARACTERS]}*")):
        try:
            record = json.loads((folder / RECORD_FILE).read_bytes())
            result = Stored(
                key=str(record["key"]), folder=folder / str(record["artifact"]), produces=str(record["produces"])
            )
        except _NO_RECORD:
            continue
        if not folder.name.startswith(".") and result.key.startswith(key):
            found.append(result)
    return found


def kinds_at(place: Path) -> list[str]:
    """What a folder can be used as: what the stage made whose result it is; else what lies in it.

    A checkpoint carries its tokenizer, so a checkpoint's folder is both.
    """
    try:
        return [str(json.loads((place / RECORD_FILE).read_bytes())["produces"])]
    except _NO_RECORD:
        pass
    files = {"checkpoint": CHECKPOINT_FILE, "tokenizer": TOKENIZER_FILE}
    return [kind for kind, name in files.items() if (place / name).is_file()]


def recorded(folder: Path, words: Sequence[str], registry: Registry) -> Any:
    """What one records: `model` (its config), `model.dim`, its tokenizer's digest and `vocab_size`. NotRecorded."""
    name, *rest = words
    try:
        if name == "vocab_size":
            from nanochat.text.tokenizer import Tokenizer

            found: Any = Tokenizer.load(folder).vocab_size
        elif name == "tokenizer":
            from nanochat.text.tokenizer import Tokenizer

            found = Tokenizer.load(folder).digest
        else:
            meta = json.loads((folder / CHECKPOINT_FILE).read_bytes())
            found = meta[name]
            if name == "model":
                found = revived(registry.config_class("model", found["use"]), found["config"])
        for word in rest:
            found = getattr(found, word)
    except Exception as fault:  # files that others made, configs of other versions
        raise NotRecorded(f"{folder} does not say its {'.'.join(words)}") from fault
    return found
