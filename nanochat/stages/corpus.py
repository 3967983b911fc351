"""The text that a tokenizer is trained on: documents of a mixture of sources, read once, up to a number of characters.

In: sources with weights. Out: texts, each from the source that lags most behind its share of the characters; a source
that is used up no longer counts. No randomness. Not here: batches for a model (`nanochat/data/`), which need tokens.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from nanochat.data.source import Source, Split
from nanochat.data.stream import unusable
from nanochat.errors import wrong_input


class Corpus:
    """One reading of a split. The counts are those of the texts given so far."""

    def __init__(
        self,
        sources: Mapping[str, tuple[Source, float]],
        split: Split,
        *,
        max_chars: int,
        max_document_chars: int,
    ) -> None:
        """`sources`: name → (source, weight). Of one document only the beginning is used where it is long.

        Raises InputError E115 where no source has a weight above 0.
        """
        # By name: the order in which a recipe lists its sources is no part of a stage's identity.
        self._sources = {name: source for name, (source, weight) in sorted(sources.items()) if weight > 0}
        self._weights = {name: sources[name][1] for name in self._sources}
        if not self._sources:
            raise wrong_input(
                "E115",
                "no source of the mixture has a weight above 0",
                help="give a source under `data` a weight, or leave the weights out: then all are equal",
            )
        self._split = split
        self._max_chars, self._max_document_chars = max_chars, max_document_chars
        self.documents = 0
        self.characters = 0
        self.skipped: Counter[str] = Counter()
        """Documents passed over, by reason."""

    def expected_characters(self) -> int:
        """About how many characters there will be: bytes on disk are all that is known beforehand."""
        sizes = [shard.size_bytes for source in self._sources.values() for shard in source.shards(self._split)]
        return min(self._max_chars, sum(sizes))

    def __iter__(self) -> Iterator[str]:
        unread = {name: self._texts(source) for name, source in self._sources.items()}
        taken = dict.fromkeys(unread, 0)
        while unread and self.characters < self._max_chars:
            name = min(unread, key=lambda name: taken[name] / self._weights[name])
            text = next(unread[name], None)
            if text is None:
                del unread[name]
                continue
            text = text[: self._max_chars - self.characters]
            taken[name] += len(text)
            self.characters += len(text)
            self.documents += 1
            yield text

    def _texts(self, source: Source) -> Iterator[str]:
        for shard in source.shards(self._split):
            for document in source.documents(shard):
                text = document[: self._max_document_chars]
                if reason := unusable(text):
                    self.skipped[reason] += 1
                else:
                    yield text
