"""The source `stories`: short texts about everyday things in simple sentences, made up from a seed.

In: a size and a seed. Out: that many documents, split for validation by their text. Document i depends on the seed
and i alone, and going on in the middle makes up no more than a few before it. Not here: how a document is made up; that
is `nanochat_plugins.sources.story_writer`.
"""

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence

from nanochat.config import config, option
from nanochat.data.source import Shard, Split
from nanochat_plugins.sources.held_out import split_of
from nanochat_plugins.sources.place_index import PlaceIndex
from nanochat_plugins.sources.story_writer import write

MEAN_BYTES = 280


PLACE_STORIES = 500
"""Between two places at which making them up may begin again (`place_index.py`): they take 0.1 s."""


@config
class StoriesConfig:
    """Short stories of everyday things in simple sentences, made up from a seed. Take them on a CPU, beside `pydocs`: a
    tiny model learns to write sentences from them, and nothing is downloaded.
    """

    size: int = option(12_000, minimum=1, maximum=10**10, doc="documents, those for validation included")
    seed: int = option(0, minimum=0, maximum=2**63 - 1, doc="which documents are made up")
    validation_share: float = option(
        0.03, minimum=0.0, maximum=0.5, doc="share of the documents held out, by their text"
    )

    def characters(self) -> int:
        """Of the training split, about."""
        return round(MEAN_BYTES * self.size * (1 - self.validation_share))


class Stories:
    """The documents of a seed, one shard a split."""

    def __init__(self, config: StoriesConfig) -> None:
        self._config = config

    def shards(self, split: Split) -> Sequence[Shard]:
        share = self._config.validation_share if split == "validation" else 1 - self._config.validation_share
        origin = f"stories {self._config} {split}"
        digest = hashlib.sha256(origin.encode()).hexdigest()
        return [Shard(name=split, size_bytes=round(MEAN_BYTES * self._config.size * share), digest=digest)]

    def documents(self, shard: Shard, start: int = 0) -> Iterator[str]:
        index = PlaceIndex(["stories", shard.digest])
        place, number = index.find(start)
        try:
            for story in range(place, self._config.size):
                if story % PLACE_STORIES == 0:
                    index.learn(story, number)
                text = write(random.Random(f"{self._config.seed}/{story}"))
                if split_of(text, self._config.validation_share) == shard.name:
                    number += 1
                    if number > start:
                        yield text
        finally:
            index.save()

    def skipped(self) -> Mapping[str, int]:
        return {}
