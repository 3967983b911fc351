"""Any number of texts in an order that a seed decides, with a bounded part of them in memory.

In: texts, one by one, and a folder with room for all of them. Out: the same texts, each permutation equally likely.
Every text gets a key, a hash of the seed and its number; texts of near keys go to one file, and later each file is
sorted. So 1/128 of the texts are in memory at once. The order depends on the seed and the texts' order alone, not on a
library's random numbers.
"""

import hashlib
import shutil
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

BUCKETS = 128
_HEAD = struct.Struct("<QQ")  # key, bytes of the text


class Shuffle:
    """Texts under way: `add` all, then read once."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        self._folder, self._seed = folder, seed
        self._count = 0
        self._files = ExitStack()
        folder.mkdir(parents=True)
        self._buckets = [self._files.enter_context(self._path(n).open("wb")) for n in range(BUCKETS)]

    def add(self, text: str) -> None:
        """Put a text to the others."""
        word = f"{self._seed}/{self._count}".encode()
        key = int.from_bytes(hashlib.blake2b(word, digest_size=8).digest(), "big")
        content = text.encode()
        bucket = self._buckets[key * BUCKETS >> 64]
        bucket.write(_HEAD.pack(key, len(content)))
        bucket.write(content)
        self._count += 1

    def __iter__(self) -> Iterator[str]:
        """All texts, in their new order; what was on disk is removed on the way."""
        self._files.close()
        for number in range(BUCKETS):
            yield from _sorted(self._path(number).read_bytes())
            self._path(number).unlink()
        shutil.rmtree(self._folder)

    def _path(self, number: int) -> Path:
        return self._folder / f"bucket-{number:03d}"


def _sorted(content: bytes) -> Iterator[str]:
    places, at = [], 0
    while at < len(content):
        key, length = _HEAD.unpack_from(content, at)
        at += _HEAD.size + length
        places.append((key, at - length, at))
    for _, start, stop in sorted(places):
        yield content[start:stop].decode()
