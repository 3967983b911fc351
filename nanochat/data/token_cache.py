"""Tokenised shards on disk: what a tokenizer made of a source's documents, so that it need not make it again.

In: shards, their documents, a tokenizer. Out: for each document its ids, BOS first, as a view of a file mapped into
memory. Each shard has a folder, named by what its content follows from and so of use to every recipe:

    DATA/tokens/TOKENIZER-DIGEST/SHARD-DIGEST/
        ids.bin         the ids of all documents one behind the other: uint16, or uint32 for large vocabularies
        offsets.npy     where each begins, and the end: int64. A document that cannot be trained on has no ids
        manifest.json   names, counts, sha256 of both files

It appears whole or not at all. Not here: when it is written (`nanochat data tokenize`).
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from nanochat.data.encoding import BATCH_CHARS, BATCH_DOCUMENTS, Encoder, encode_documents, unusable
from nanochat.data.packing import Ids
from nanochat.data.source import Shard, Source
from nanochat.home import data_dir

log = logging.getLogger(__name__)

FORMAT = 1
_IDS, _OFFSETS, _MANIFEST = "ids.bin", "offsets.npy", "manifest.json"
_UINT16_IDS = 2**16


@attrs.frozen(kw_only=True, eq=False)
class CachedShard:
    """The tokenised documents of one shard."""

    ids: Ids
    offsets: NDArray[np.int64]
    faults: Mapping[int, str]
    """Number of a document that cannot be trained on → why."""
    skipped: Mapping[str, int]
    """What the source itself passed over in this shard, by reason."""

    @property
    def tokens(self) -> int:
        """Ids of all documents, BOS included."""
        return len(self.ids)

    def documents(self, start: int) -> Iterator[Ids | str]:
        """The ids of each document from number `start` on; for one that cannot be trained on, why."""
        bounds = self.offsets[start:].tolist()
        for number, (begin, end) in enumerate(pairwise(bounds), start):
            yield self.ids[begin:end] if end > begin else self.faults[number]


class TokenCache:
    """The shards that one tokenizer has made tokens of."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._folder = data_dir() / "tokens" / encoder.digest[:32]
        self._dtype = np.dtype(np.uint16 if encoder.vocab_size <= _UINT16_IDS else np.uint32)
        self._verified: set[Path] = set()

    def find(self, shard: Shard) -> CachedShard | None:
        """A shard's tokens, if they are here and whole. A damaged folder is named in the log and not used."""
        folder = self.place(shard)
        manifest = _manifest(folder)
        if manifest is None:
            return None
        if folder not in self._verified:
            if damage := _damage(folder, manifest):
                log.warning("%s is not used: %s; `nanochat data tokenize` makes it anew", folder, damage)
                return None
            self._verified.add(folder)
        ids = np.memmap(folder / _IDS, dtype=self._dtype, mode="r") if manifest["ids"] else np.empty(0, self._dtype)
        return CachedShard(
            ids=ids.view(np.ndarray),  # slices of a memmap would be ten times as slow to make
            offsets=np.load(folder / _OFFSETS),
            faults={int(number): reason for number, reason in manifest["faults"].items()},
            skipped=manifest["skipped"],
        )

    def write(self, source: Source, shard: Shard, progress: Callable[[int], object] | None = None) -> CachedShard:
        """Tokenise a shard, unless that is done already; another process that does it is waited for.

        `progress` is called with the documents done.
        """
        folder = self.place(shard)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            found = self.find(shard)
            if found is not None:
                return found
            shutil.rmtree(folder, ignore_errors=True)  # damaged
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)  # of an attempt that was cut off
            partial.mkdir()
            try:
                self._write(partial, source, shard, progress)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        written = self.find(shard)
        assert written is not None
        return written

    def place(self, shard: Shard) -> Path:
        """The folder of a shard's tokens."""
        return self._folder / hashlib.sha256(f"{shard.name}\0{shard.digest}\0{shard.reading}".encode()).hexdigest()[:32]

    def _write(self, folder: Path, source: Source, shard: Shard, progress: Callable[[int], object] | None) -> None:
        before = dict(source.skipped())
        lengths: list[int] = []
        faults: dict[int, str] = {}
        with (folder / _IDS).open("wb") as file:
            for texts in _batches(source.documents(shard)):
                reasons = [unusable(text) for text in texts]
                faults |= {len(lengths) + n: reason for n, reason in enumerate(reasons) if reason}
                usable = [text for text, reason in zip(texts, reasons, strict=True) if not reason]
                encoded = iter(encode_documents(self._encoder, usable))
                made = [np.empty(0, np.uint32) if reason else next(encoded) for reason in reasons]
                file.write(np.concatenate(made).astype(self._dtype).tobytes())
                lengths += [len(ids) for ids in made]
                if progress is not None:
                    progress(len(lengths))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.array(lengths, np.int64))])
        np.save(folder / _OFFSETS, offsets)
        manifest = {
            "format": FORMAT,
            "shard": attrs.asdict(shard),
            "tokenizer": self._encoder.digest,
            "documents": len(lengths),
            "ids": int(offsets[-1]),
            "faults": faults,
            "skipped": {reason: n - before.get(reason, 0) for reason, n in source.skipped().items()},
            "sha256": {name: _sha256(folder / name) for name in (_IDS, _OFFSETS)},
        }
        (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2))
        for path in (*folder.iterdir(), folder):
            _sync(path)


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    chars = 0
    for text in texts:
        batch.append(text)
        chars += len(text)
        if len(batch) == BATCH_DOCUMENTS or chars >= BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder; None where there is none of this format."""
    try:
        found = json.loads((folder / _MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None


def _damage(folder: Path, manifest: Mapping[str, Any]) -> str | None:
    """What is wrong with the files of a folder; None where nothing is."""
    for name, digest in manifest["sha256"].items():
        try:
            if _sha256(folder / name) != digest:
                return f"{name} does not match its sha256"
        except OSError as fault:
            return f"{name} cannot be read ({fault.strerror})"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
