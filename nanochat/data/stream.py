"""A source as endless streams of tokenised documents, one a lane, each with an exact place to go on from.

In: a source, a tokenizer, and the cache of what it made before. Out: for each lane of this rank its next document, and
its position: a few integers. The usable documents of the train split are numbered on and on through all epochs, and
document i belongs to lane i mod V. The count does not begin again with an epoch, so every lane gets documents however
small the corpus is; over an epoch each document still goes to exactly one lane. Not here: packing, mixing, validation
documents.

The lanes of a rank share one reader: it reads and tokenises a little ahead and queues each lane's documents. A lane
that falls far behind the others (its documents are longer, say) gets a reader of its own, so that no queue grows
without end. Nothing that was read ahead is part of a position: after a seek it is read again.
"""

import logging
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import attrs

from nanochat.data.encoding import BATCH_CHARS, BATCH_DOCUMENTS, Encoder, encode_documents, unusable
from nanochat.data.packing import Ids
from nanochat.data.source import Shard, Source
from nanochat.data.token_cache import TokenCache
from nanochat.errors import NanochatError, wrong_input

log = logging.getLogger(__name__)

QUEUE_IDS = 4_000_000  # 16 MB: beyond, a lane that is behind the others reads by itself
NEAR_DOCUMENTS = 4_096  # lanes within so many documents of one another share a reader after a seek


@attrs.frozen
class Position:
    """A place between two documents of a source, and how many usable ones came before it."""

    epoch: int = 0
    shard: int = 0
    row: int = 0
    """The number of the next document in the shard."""
    ordinal: int = 0
    """Usable documents before it, through all epochs."""


@attrs.frozen(eq=False)
class Reading:
    """A tokenised document, BOS first, and the position behind it."""

    ids: Ids
    after: Position


class DocumentStream:
    """The train split of one source, as this rank's lanes see it."""

    def __init__(self, name: str, source: Source, encoder: Encoder, *, lanes: int, own: Sequence[int]) -> None:
        self.name = name
        self.skipped: Counter[str] = Counter()
        """Documents of this rank's lanes that were passed over, by reason."""
        self._source = source
        self._shards = list(source.shards("train"))
        if not self._shards:
            raise self._empty()
        self.encoder = encoder
        self._cache = TokenCache(encoder)
        self._lanes = lanes
        self._positions = dict.fromkeys(own, Position())
        self._readers: dict[int, _Reader] = {}

    def position(self, lane: int) -> Position:
        """Where a lane goes on: behind the last document it took."""
        return self._positions[lane]

    def seek(self, lane: int, position: Position) -> None:
        """Go on from a saved position."""
        self._positions[lane] = position
        self._readers.clear()

    def peek(self, lane: int) -> Reading:
        """A lane's next document, which stays where it is."""
        if not self._readers:
            self._share_readers()
        while (reading := self._readers[lane].first(lane)) is None:
            # The shared reader left this lane behind, and what it had queued for it is used up.
            self._readers[lane] = _Reader(self, {lane: self._positions[lane]})
        return reading

    def take(self, lane: int) -> Reading:
        """A lane's next document, and on to the one after it."""
        reading = self.peek(lane)
        self._readers[lane].drop(lane)
        self._positions[lane] = reading.after
        return reading

    def read(self, position: Position, starts: Mapping[int, int]) -> Iterator[tuple[str | Ids, int, Position]]:
        """The usable documents from a position on, without end: text or ids, lane, and the position behind it.

        `starts` are the ordinals from which on documents passed over are counted, for the lanes that count them.
        """
        epoch, ordinal, row = position.epoch, position.ordinal, position.row
        first_shard, barren = position.shard, 0
        while barren < 2:  # twice: the first time may have begun in the middle
            before = ordinal
            for shard in range(first_shard, len(self._shards)):
                for content, fault in self._contents(self._shards[shard], row):
                    row += 1
                    lane = ordinal % self._lanes
                    if fault is not None:
                        if ordinal >= starts.get(lane, ordinal + 1):
                            self.skipped[fault] += 1
                        continue
                    ordinal += 1
                    yield content, lane, Position(epoch, shard, row, ordinal)
                row = 0
            barren = 0 if ordinal > before else barren + 1
            epoch, first_shard, row = epoch + 1, 0, 0
        raise self._empty()

    def _contents(self, shard: Shard, row: int) -> Iterator[tuple[str | Ids, str | None]]:
        """A shard's documents from number `row` on, tokenised where the cache has them, and what is wrong with each."""
        cached = self._cache.find(shard)
        if cached is not None:
            if row == 0:
                self.skipped.update(cached.skipped)  # the source is not asked, and so does not count
            try:
                for ids in cached.documents(row):
                    yield (ids, ids) if isinstance(ids, str) else (ids, None)
                    row += 1
                return
            except OSError as fault:
                log.warning("%s: %s; the text is read from here on", cached.path, fault.strerror)
        yield from ((text, unusable(text)) for text in self._source.documents(shard, row))

    def _share_readers(self) -> None:
        """One reader for lanes that are near one another: all, unless they were saved far apart."""
        lanes = sorted(self._positions, key=lambda lane: self._positions[lane].ordinal)
        groups = [[lanes[0]]]
        for behind, lane in pairwise(lanes):
            gap = self._positions[lane].ordinal - self._positions[behind].ordinal
            groups.append([lane]) if gap > NEAR_DOCUMENTS * self._lanes else groups[-1].append(lane)
        for group in groups:
            reader = _Reader(self, {lane: self._positions[lane] for lane in group})
            self._readers.update(dict.fromkeys(group, reader))

    def _empty(self) -> NanochatError:
        passed_over = self.skipped + Counter(self._source.skipped())
        found = ", ".join(f"{count} {reason}" for reason, count in sorted(passed_over.items()))
        return wrong_input(
            "E302",
            f"the source `{self.name}` has no document to train on" + (f" (passed over: {found})" if found else ""),
            help="check its path, its text column or field, and that the train split is not empty",
        )


class _Reader:
    """Reads a stream once for several lanes, from the position of the hindmost."""

    def __init__(self, stream: DocumentStream, starts: Mapping[int, Position]) -> None:
        self._stream = stream
        self._starts = {lane: position.ordinal for lane, position in starts.items()}
        self._queues: dict[int, deque[Reading]] = {lane: deque() for lane in starts}
        self._queued_ids = dict.fromkeys(starts, 0)
        self._left_behind: set[int] = set()
        hindmost = min(starts.values(), key=lambda position: position.ordinal)
        self._documents = stream.read(hindmost, self._starts)

    def first(self, lane: int) -> Reading | None:
        """The first queued document of a lane; None where this reader has gone too far ahead of it."""
        queue = self._queues[lane]
        while not queue and lane not in self._left_behind:
            self._read_batch()
        return queue[0] if queue else None

    def drop(self, lane: int) -> None:
        self._queued_ids[lane] -= len(self._queues[lane].popleft().ids)

    def _read_batch(self) -> None:
        """Read on, tokenise what this reader's lanes want, and queue it."""
        contents: list[str | Ids] = []
        places: list[tuple[int, Position]] = []
        size = 0
        while len(contents) < BATCH_DOCUMENTS and size < BATCH_CHARS:
            content, lane, after = next(self._documents)
            if after.ordinal > self._starts.get(lane, after.ordinal) and lane not in self._left_behind:
                contents.append(content)
                places.append((lane, after))
                size += len(content)
        encoded = iter(encode_documents(self._stream.encoder, [text for text in contents if isinstance(text, str)]))
        for (lane, after), content in zip(places, contents, strict=True):
            ids = next(encoded) if isinstance(content, str) else content
            if lane in self._left_behind:
                continue
            if self._queues[lane] and self._queued_ids[lane] + len(ids) > QUEUE_IDS:
                self._left_behind.add(lane)
                continue
            self._queues[lane].append(Reading(ids, after))
            self._queued_ids[lane] += len(ids)
