"""Tokenised shards on disk: what a tokenizer made of a source's documents, so that it need not make it again.

In: shards, their documents, a tokenizer. Out: for each document its ids, BOS first. Each shard has a folder, named by
what its content follows from and so of use to every recipe:

    DATA/tokens/TOKENIZER-DIGEST/SHARD-DIGEST/
        ids.bin         the ids of all documents one behind the other: uint16, or uint32 for large vocabularies
        offsets.npy     where each begins, and the end: int64. A document that cannot be trained on has no ids
        manifest.json   names, counts, sha256 of both files

It appears whole or not at all. A shard that is being read stays open, so that it may be removed or replaced meanwhile.
It is read document by document, and not mapped into memory: of a mapped file that is cut off, or whose disk fails, the
system kills whoever touches what is gone, where a read is only told. What a map would save is 2% of a core at 5 million
tokens a second (tests/benchmarks/test_loader_speed.py). Not here: when it is written (`nanochat data tokenize`).
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from errno import EIO
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
from nanochat.durable import sha256, sync
from nanochat.home import data_dir

log = logging.getLogger(__name__)

FORMAT = 1
_IDS, _OFFSETS, _MANIFEST = "ids.bin", "offsets.npy", "manifest.json"
_FILES = (_IDS, _OFFSETS)
_UINT16_IDS = 2**16


class _Damaged(Exception):
    """What is wrong with a folder."""


@attrs.frozen(kw_only=True, eq=False)
class CachedShard:
    """The tokenised documents of one shard."""

    path: Path
    """Of the ids."""
    dtype: np.dtype[np.unsignedinteger]
    offsets: NDArray[np.int64]
    faults: Mapping[int, str]
    """Number of a document that cannot be trained on → why."""
    skipped: Mapping[str, int]
    """What the source itself passed over in this shard, by reason."""

    @property
    def tokens(self) -> int:
        """Ids of all documents, BOS included."""
        return int(self.offsets[-1])

    @property
    def size(self) -> int:
        """Bytes of all ids."""
        return self.tokens * self.dtype.itemsize

    def documents(self, start: int) -> Iterator[Ids | str]:
        """The ids of each document from number `start` on; for one that cannot be trained on, why.

        OSError where the file cannot be read, or is shorter than it was when it was found.
        """
        item = self.dtype.itemsize
        bounds = (self.offsets[start:] * item).tolist()
        with self.path.open("rb", buffering=0) as file:
            for number, (begin, end) in enumerate(pairwise(bounds), start):
                content = os.pread(file.fileno(), end - begin, begin)
                if len(content) < end - begin:
                    raise OSError(EIO, "it was cut off while it was read", str(self.path))
                yield np.frombuffer(content, self.dtype) if content else self.faults[number]


class TokenCache:
    """The shards that one tokenizer has made tokens of."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._folder = data_dir() / "tokens" / encoder.digest[:32]
        narrow = encoder.vocab_size <= _UINT16_IDS
        self._dtype: np.dtype[np.unsignedinteger] = np.dtype(np.uint16) if narrow else np.dtype(np.uint32)
        self._verified: dict[Path, object] = {}

    def find(self, shard: Shard) -> CachedShard | None:
        """A shard's tokens, if they are here and whole. A damaged folder is named in the log and not used."""
        folder = self.place(shard)
        if not folder.is_dir():
            return None
        try:
            return self._read(folder)
        except OSError as fault:
            damage = f"{Path(fault.filename or folder).name} cannot be read ({fault.strerror})"
        except (_Damaged, ValueError, KeyError, TypeError, AttributeError) as fault:
            damage = str(fault) if isinstance(fault, _Damaged) else f"its {_MANIFEST} is damaged"
        log.warning("%s is not used: %s; `nanochat data tokenize` makes it anew", folder, damage)
        return None

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
                sync(folder.parent)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        written = self.find(shard)
        assert written is not None
        return written

    def place(self, shard: Shard) -> Path:
        """The folder of a shard's tokens."""
        return self._folder / hashlib.sha256(f"{shard.name}\0{shard.digest}\0{shard.reading}".encode()).hexdigest()[:32]

    def _read(self, folder: Path) -> CachedShard:
        """What a folder holds. _Damaged where it does not hold together."""
        manifest = _manifest(folder)
        if manifest["tokenizer"] != self._encoder.digest:
            raise _Damaged("it is of another tokenizer")
        self._verify(folder, manifest["sha256"])
        count, ids = int(manifest["documents"]), int(manifest["ids"])
        faults = {int(number): str(reason) for number, reason in manifest["faults"].items()}
        offsets = np.load(folder / _OFFSETS)
        empty = np.flatnonzero(np.diff(offsets) == 0).tolist()
        if (folder / _IDS).stat().st_size != ids * self._dtype.itemsize or len(offsets) != count + 1:
            raise _Damaged(f"{_MANIFEST} tells of other files")
        if offsets[0] != 0 or offsets[-1] != ids or (np.diff(offsets) < 0).any() or empty != sorted(faults):
            raise _Damaged(f"{_OFFSETS} and {_MANIFEST} do not fit together")
        return CachedShard(
            path=folder / _IDS, dtype=self._dtype, offsets=offsets, faults=faults, skipped=manifest["skipped"]
        )

    def _verify(self, folder: Path, digests: Mapping[str, str]) -> None:
        """Compare the files with their digests: once, and again where one was written since."""
        stamps = tuple((stat.st_size, stat.st_mtime_ns) for stat in ((folder / name).stat() for name in _FILES))
        if self._verified.get(folder) == stamps:
            return
        for name in _FILES:
            if sha256(folder / name) != digests[name]:
                raise _Damaged(f"{name} does not match its sha256")
        self._verified[folder] = stamps

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
            "sha256": {name: sha256(folder / name) for name in _FILES},
        }
        (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2))
        for path in (*folder.iterdir(), folder):
            sync(path)


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


def _manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder."""
    found = json.loads((folder / _MANIFEST).read_bytes())
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise _Damaged(f"{_MANIFEST} is of another format")
    return found
