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
    """sha256 of its content, or of what determines it."""
    reading: str = ""
    """The options that decide which documents the content gives, where there are such: a column's name, say. Tokens
    that are kept on disk are found by the digest and this."""


def split_digest(shards: Sequence[Shard]) -> str:
    """One sha256 for a split: over its shards' names and digests, in order."""
    text = "".join(f"{shard.name}\0{shard.digest}\n" for shard in shards)
    return hashlib.sha256(text.encode()).hexdigest()


def digests(sources: Mapping[str, "Source"]) -> dict[str, str]:
    """The digests of both splits of every source, as a stage's record keeps them."""
    splits: tuple[Split, ...] = ("train", "validation")
    return {
        f"{name}.{split}": split_digest(source.shards(split)) for name, source in sources.items() for split in splits
    }


class Source(Protocol):
    """Documents in shards. The same config gives the same documents in the same order."""

    def shards(self, split: Split) -> Sequence[Shard]:
        """The shards of a split, in order; the two splits share no document.

        Sizes and digests must be known here; what lies elsewhere need not have come. Every process of a stage asks
        before its work begins.
        """

    def documents(self, shard: Shard, start: int = 0) -> Iterator[str]:
        """The texts of a shard from number `start` on, counted from 0 as they are given out: what is passed over has
        no number.

        A text that lies elsewhere is waited for here, and that is logged. In the middle of training the wait must end,
        with an error of the source's own, before the collective in which other processes may wait does (10 minutes).
        """

    def skipped(self) -> Mapping[str, int]:
        """How many records were passed over so far, by reason (null, empty, not UTF-8, no text, too long)."""
