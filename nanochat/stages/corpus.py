"""The text that a tokenizer is trained on: documents of a mixture of sources, read once, up to a number of characters.

In: sources with weights. Out: texts, each from the source that lags most behind its share of the characters; a source
that is used up no longer counts. No randomness. Not here: batches for a model (`nanochat/data/`), which need tokens.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from nanochat.data.encoding import unusable
from nanochat.data.mixture import Mixture, weighted
from nanochat.data.source import Source, Split


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
        used = weighted(sources).values()
        self._sources = [source for source, _ in used]
        self._weights = [weight for _, weight in used]
        self._split = split
        self._max_chars, self._max_document_chars = max_chars, max_document_chars
        self.documents = 0
        self.characters = 0
        self.skipped: Counter[str] = Counter()
        """Documents passed over, by reason."""

    def expected_characters(self) -> int:
        """About how many characters there will be: bytes on disk are all that is known beforehand."""
        sizes = [shard.size_bytes for source in self._sources for shard in source.shards(self._split)]
        return min(self._max_chars, sum(sizes))

    def __iter__(self) -> Iterator[str]:
        mixture = Mixture(self._weights)
        texts = [self._texts(source) for source in self._sources]
        while self.characters < self._max_chars and not mixture.ended:
            source = mixture.due()
            text = next(texts[source], None)
            if text is None:
                mixture.end(source)
                continue
            text = text[: self._max_chars - self.characters]
            mixture.add(source, len(text))
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
