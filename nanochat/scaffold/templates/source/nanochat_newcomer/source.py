"""The source `newcomer`: a diary of birds, a day a document, every tenth day held out for validation."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from nanochat.config import config, option
from nanochat.data.source import Shard, Split


@config
class NewcomerConfig:
    """How much of it. A source that reads files derives from `nanochat.config.Fingerprinted` too."""

    size: int = option(1_000, minimum=10, doc="documents, those for validation included")


class Newcomer:
    """One shard a split."""

    def __init__(self, config: NewcomerConfig) -> None:
        self.size = config.size

    def shards(self, split: Split) -> Sequence[Shard]:
        content = "\n".join(self._texts(split)).encode()
        return [Shard(name=split, size_bytes=len(content), digest=hashlib.sha256(content).hexdigest())]

    def documents(self, shard: Shard, start: int = 0) -> Iterator[str]:
        return islice(self._texts(shard.name), start, None)

    def skipped(self) -> Mapping[str, int]:
        return {}

    def _texts(self, split: str) -> Iterator[str]:
        held_out = split == "validation"
        return (day(number) for number in range(self.size) if (number % 10 == 9) == held_out)


def day(number: int) -> str:
    """The entry of a day; it depends on its number alone."""
    birds = ("sparrows", "swallows", "robins", "finches")[number % 4]
    return (
        f"Day {number}. We counted {number * 7 % 90 + 2} {birds} at the pond, and {number * 3 % 11 + 2} more at dusk."
    )
