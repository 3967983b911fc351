"""A mixture of sources: which of them the next document comes from.

In: each source's weight, and how much was taken from it (tokens, or characters). Out: the source that lags most behind
its share. No randomness, so nothing but the amounts needs saving. Not here: reading or packing.
"""

from collections.abc import Mapping, Sequence

from nanochat.data.source import Source
from nanochat.errors import wrong_input


class Mixture:
    """What was taken from each source, and the next source in turn."""

    def __init__(self, weights: Sequence[float]) -> None:
        assert weights
        assert min(weights) > 0
        self._weights = list(weights)
        self._left = list(range(len(self._weights)))
        self.taken = [0] * len(self._weights)

    @property
    def ended(self) -> bool:
        """Whether every source has ended."""
        return not self._left

    def due(self) -> int:
        """The number of the source of which least was taken for its weight; the first among equals."""
        return min(self._left, key=lambda number: self.taken[number] / self._weights[number])

    def add(self, source: int, amount: int) -> None:
        """Count what a source gave; less than nothing where it was cropped after all."""
        self.taken[source] += amount

    def end(self, source: int) -> None:
        """A source that has nothing more is never due again."""
        self._left.remove(source)


def weighted(sources: Mapping[str, tuple[Source, float]]) -> dict[str, tuple[Source, float]]:
    """The sources that count, name → (source, weight). InputError E115 where no weight is above 0.

    By name: the order in which a recipe lists its sources is no part of a stage's identity.
    """
    used = {name: entry for name, entry in sorted(sources.items()) if entry[1] > 0}
    if not used:
        raise wrong_input(
            "E115",
            "no source of the mixture has a weight above 0",
            help="give a source under `data` a weight, or leave the weights out: then all are equal",
        )
    return used
