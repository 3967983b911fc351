"""The contract of a source: documents for pretraining, in a fixed order, from any place in it.

A source plugin's config class is torch-free and may be `Fingerprinted`; its builder takes that config.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Protocol

import attrs

Split = Literal["train", "validation"]


@attrs.frozen(kw_only=True)
class Shard:
    """A unit of a source that is read in order: a file, or a part of what is generated."""

    name: str
    size_bytes: int
    digest: str
    """sha256 of all that its documents follow from: content, and the options that decide how it is read. Tokens that
    are kept on disk are found by it."""


def split_digest(source: "Source", split: Split) -> str:
    """One sha256 for a split: over its shards' names and digests, in order."""
    text = "".join(f"{shard.name}\0{shard.digest}\n" for shard in source.shards(split))
    return hashlib.sha256(text.encode()).hexdigest()


def digests(sources: Mapping[str, "Source"]) -> dict[str, str]:
    """The digests of both splits of every source, as a stage's record keeps them."""
    splits: tuple[Split, ...] = ("train", "validation")
    return {f"{name}.{split}": split_digest(source, split) for name, source in sources.items() for split in splits}


class Source(Protocol):
    """Documents in shards. The same config gives the same documents in the same order."""

    def shards(self, split: Split) -> Sequence[Shard]:
        """The shards of a split, in order; the two splits share no document.

        What has to be fetched is fetched here: `documents` is read while other processes wait in a collective.
        """

    def documents(self, shard: Shard, start: int = 0) -> Iterator[str]:
        """The texts of a shard from document number `start` (counted from 0) on."""

    def skipped(self) -> Mapping[str, int]:
        """How many records were passed over so far, by reason (null, empty, not UTF-8)."""
