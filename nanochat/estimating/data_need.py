"""How much text a pretraining stage reads, against how much its sources have.

In: the mixture's configs and the number of tokens. Out: for each source the characters that are wanted, those that one
pass gives, and where it comes in shards, how many would do. A source's config says what it has (`characters`,
`disk_bytes`, `shards`: see `nanochat.hooks`). Nothing is read.
"""

import math
from collections.abc import Mapping

import attrs

from nanochat.config import Component
from nanochat.estimating.answer import answer, size_of, whole
from nanochat.stages.pretrain_config import PretrainConfig

CHARACTERS_PER_TOKEN = ((2**11, 3.3), (2**15, 4.8))
"""(vocabulary, characters a token) of English: measured on `quickstart.toml`, and ClimbMix's by this field's use.
Between and beyond, by the logarithm of the vocabulary."""
BEST_FIT_KEPT = 0.65
"""The share of the tokens read that best-fit packing keeps, at 2,048 tokens a row; a stream keeps all."""


@attrs.frozen(kw_only=True)
class DataNeed:
    """What is wanted of one source. Characters, all of them about."""

    name: str
    use: str
    needed: int
    available: int | None
    """Of one pass; None where the source does not say."""
    shards: int | None
    """How many are read, where the source comes in shards."""
    shards_needed: int | None
    disk_bytes: int
    """Of the files that it downloads."""

    @property
    def passes(self) -> float | None:
        """How often what is there is read."""
        return self.needed / self.available if self.available else None


def characters_per_token(vocab_size: int) -> float:
    """About, for English text."""
    (small, few), (large, many) = CHARACTERS_PER_TOKEN
    return max(1.0, few + (many - few) * math.log2(vocab_size / small) / math.log2(large / small))


def data_needs(data: Mapping[str, Component], tokens: int, vocab_size: int, *, packing: str) -> list[DataNeed]:
    """The need of each source by its weight. packing: the stage's, "best_fit" or "stream"."""
    kept = BEST_FIT_KEPT if packing == "best_fit" else 1.0
    characters = tokens * characters_per_token(vocab_size) / kept
    total = sum(source.slot.weight for source in data.values())
    return [_need(source, characters * source.slot.weight / total) for source in data.values() if source.slot.weight]


def pretraining_needs(config: PretrainConfig) -> list[DataNeed]:
    """The need of each source of a pretraining stage."""
    vocabulary = size_of(config.model, "vocab_size") or 2**15
    return data_needs(config.data, config.steps * config.total_batch_size, vocabulary, packing=config.packing)


def available_characters(source: Component) -> int | None:
    """What one pass over a source gives; None where it does not say."""
    return answer(source, "characters", whole)


def _need(source: Component, characters: float) -> DataNeed:
    available, shards = available_characters(source), size_of(source, "shards")
    return DataNeed(
        name=source.name,
        use=source.use,
        needed=round(characters),
        available=available,
        shards=shards,
        shards_needed=math.ceil(characters / (available / shards)) if available and shards else None,
        disk_bytes=answer(source, "disk_bytes", whole) or 0,
    )
