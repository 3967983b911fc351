"""A mixture of sources: which of them a lane's next document comes from.

In: each source's weight, and the tokens that were taken from it. Out: the source that lags most behind its share of the
tokens. No randomness, so nothing but the counts needs saving. Not here: reading or packing.
"""

from collections.abc import Sequence


class Mixture:
    """Tokens taken from each source by one lane, and the next source in turn."""

    def __init__(self, weights: Sequence[float]) -> None:
        assert weights
        assert min(weights) > 0
        self._weights = list(weights)
        self.tokens = [0] * len(self._weights)

    def due(self) -> int:
        """The number of the source with the fewest tokens for its weight; the first among equals."""
        shares = [
            (tokens / weight, number)
            for number, (tokens, weight) in enumerate(zip(self.tokens, self._weights, strict=True))
        ]
        return min(shares)[1]

    def add(self, source: int, tokens: int) -> None:
        """Count tokens that a source gave; less than none where they were cropped after all."""
        self.tokens[source] += tokens
