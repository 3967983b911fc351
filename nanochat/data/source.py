"""The contract of a source: documents for pretraining, in a fixed order, from any place in it.

A source plugin's config class is torch-free and may be `Fingerprinted`; its builder takes that config.
"""

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


class Source(Protocol):
    """Documents in shards. The same config gives the same documents in the same order."""

    def shards(self, split: Split) -> Sequence[Shard]:
        """The shards of a split, in order; the two splits share no document."""

    def documents(self, shard: Shard, start: int = 0) -> Iterator[str]:
        """The texts of a shard from document number `start` (counted from 0) on."""

    def skipped(self) -> Mapping[str, int]:
        """How many records were passed over so far, by reason (null, empty, not UTF-8)."""
