"""What the texts of a source are like: how many, how long, and how many records were passed over.

In: a source and how many documents to read at most. Out: counts and lengths of what was read. Not here: tokens, which
depend on a tokenizer.
"""

from itertools import islice

import attrs
import numpy as np

from nanochat.data.source import Source, Split


@attrs.frozen(kw_only=True)
class TextStatistics:
    """Of the documents that were read."""

    documents: int
    whole: bool
    """Whether these are all documents of the split."""
    characters: int
    utf8_bytes: int
    mean: float
    median: float
    p99: float
    longest: int
    """Lengths in characters."""
    skipped: dict[str, int]
    """Records passed over meanwhile, by reason."""


def text_statistics(source: Source, split: Split, *, documents: int) -> TextStatistics:
    """Read the first documents of a split."""
    before = dict(source.skipped())
    texts = (text for shard in source.shards(split) for text in source.documents(shard))
    lengths: list[int] = []
    utf8_bytes = 0
    for text in islice(texts, documents):
        lengths.append(len(text))
        utf8_bytes += len(text.encode(errors="replace"))
    whole = next(texts, None) is None
    skipped = {reason: count - before.get(reason, 0) for reason, count in source.skipped().items()}
    median, p99 = np.percentile(lengths, [50, 99]) if lengths else (0.0, 0.0)
    return TextStatistics(
        documents=len(lengths),
        whole=whole,
        characters=sum(lengths),
        utf8_bytes=utf8_bytes,
        mean=sum(lengths) / len(lengths) if lengths else 0.0,
        median=float(median),
        p99=float(p99),
        longest=max(lengths, default=0),
        skipped={reason: count for reason, count in skipped.items() if count},
    )
