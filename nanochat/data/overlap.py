"""Contamination: how much of what is evaluated on stands, word for word, in what is trained on.

In: sets of texts to be evaluated on, texts that are trained on. Out: for each set how many of its texts share a run of
n words with the training texts, and how many of all its runs. n is 13, as in arXiv 2005.14165 (appendix C). Words are
compared without case and punctuation. A text of fewer words than n has no such run: it is counted, and says nothing.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

N = 13
_WORD = re.compile(r"\w+")

Gram = tuple[str, ...]


@attrs.frozen(kw_only=True)
class Overlap:
    """Of one set with all training texts that were read."""

    texts: int
    short: int
    """Texts of fewer than n words."""
    found: Sequence[tuple[int, float]]
    """Number of a text that shares a run, and the share of its runs that are found; by number."""
    grams: int
    """Different runs of the set."""
    grams_found: int

    @property
    def share(self) -> float:
        """Of the texts that can be told; 0 where none can."""
        return len(self.found) / max(1, self.texts - self.short)


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores."""
    return _WORD.findall(text.casefold())


def grams(text: str, n: int) -> Iterator[Gram]:
    """Every run of n words."""
    found = words(text)
    return zip(*(found[offset:] for offset in range(n)), strict=False)


def overlaps(sets: Mapping[str, Iterable[str]], training: Iterable[str], n: int = N) -> dict[str, Overlap]:
    """Every set against the training texts, which are read once and not kept."""
    own = {name: [set(grams(text, n)) for text in texts] for name, texts in sets.items()}
    wanted = {gram for texts in own.values() for text in texts for gram in text}
    seen: set[Gram] = set()
    for text in training:
        seen.update(gram for gram in grams(text, n) if gram in wanted)
    return {name: _overlap(texts, seen) for name, texts in own.items()}


def _overlap(texts: Sequence[set[Gram]], seen: set[Gram]) -> Overlap:
    shared = [(number, len(text & seen) / len(text)) for number, text in enumerate(texts) if text]
    everything: set[Gram] = set().union(*texts)
    return Overlap(
        texts=len(texts),
        short=sum(not text for text in texts),
        found=[(number, share) for number, share in shared if share],
        grams=len(everything),
        grams_found=len(everything & seen),
    )
