"""Batches for pretraining: documents of a mixture of sources, packed without padding.

In: sources with weights, a tokenizer, the shape of a batch. Out: (B, T) batches and an exact state. In each lane, every
document of a source's epoch is used before one of its next epoch is.
Not here: validation documents (evaluations read those once, in order), devices.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from nanochat.data.encoding import Encoder
from nanochat.data.loader import Lane, Loader, Turns
from nanochat.data.mixture import Mixture, weighted
from nanochat.data.packing import Document, FitBuffer, best_fit_row, stream_row
from nanochat.data.source import Source
from nanochat.data.stream import DocumentStream, Position


class PretrainLoader(Loader):
    """The rows of one rank."""

    def __init__(
        self,
        sources: Mapping[str, tuple[Source, float]],
        tokenizer: Encoder,
        *,
        rows: int,
        sequence_len: int,
        packing: str,
        buffer: int,
        lanes: int,
        document_mask: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """`sources`: name → (source, weight); `rows`: this rank's B; `buffer`: documents a lane chooses from.

        Raises E115 where the processes cannot share the lanes equally or no weight is above 0, E302 where a source has
        nothing to train on.
        """
        assert packing in ("best_fit", "stream"), packing
        turns = Turns(lanes, rank, world_size)
        used = weighted(sources)
        self._sources = {name: source for name, (source, _) in used.items()}
        self._streams = [
            DocumentStream(name, source, tokenizer, lanes=lanes, own=turns.own)
            for name, source in self._sources.items()
        ]
        weights = [weight for _, weight in used.values()]
        feeds = {number: _Feed(number, self._streams, weights) for number in turns.own}
        room = sequence_len + 1  # one more than the inputs, so that each has its target
        made: dict[int, Lane] = {
            number: _BestFitLane(feed, room, buffer) if packing == "best_fit" else _StreamLane(feed, room)
            for number, feed in feeds.items()
        }
        super().__init__(
            turns, made, rows=rows, sequence_len=sequence_len, pad=tokenizer.bos_id, document_mask=document_mask
        )

    def counts(self) -> dict[str, int]:
        """By source: the epochs that its furthest lane has behind it, and the documents passed over, by reason.

        Documents are counted when they are read, which is a little ahead, by this process, since it started.
        """
        counts: dict[str, int] = {}
        for stream in self._streams:
            counts[f"{stream.name}.epochs"] = max(stream.position(lane).epoch for lane in self._turns.own)
            for reason, skipped in (stream.skipped + Counter(self._sources[stream.name].skipped())).items():
                counts[f"{stream.name}.skipped.{reason}"] = skipped
        return counts

    def position(self) -> dict[str, int]:
        """By source: epoch, shard, and the usable documents before it in all epochs, of the furthest lane."""
        found: dict[str, int] = {}
        for stream in self._streams:
            at = max((stream.position(lane) for lane in self._turns.own), key=lambda place: place.ordinal)
            found |= {
                f"{stream.name}.epoch": at.epoch,
                f"{stream.name}.shard": at.shard,
                f"{stream.name}.documents": at.ordinal,
            }
        return found


class _Feed:
    """One lane's documents: each from the source that is due."""

    def __init__(self, lane: int, streams: Sequence[DocumentStream], weights: Sequence[float]) -> None:
        self._lane, self._streams = lane, streams
        self._mixture = Mixture(weights)
        self.due = self._mixture.due

    def begins_epoch(self, source: int) -> bool:
        """Whether a source's next document belongs to a later epoch than its last one."""
        stream = self._streams[source]
        return stream.peek(self._lane).after.epoch != stream.position(self._lane).epoch

    def take(self, source: int, room: int | None = None) -> Document:
        """A source's next document. It counts with all its tokens, or with the `room` that it can fill at most."""
        ids = self._streams[source].take(self._lane).ids
        self._mixture.add(source, len(ids) if room is None else min(len(ids), room))
        return Document(ids, source=source)

    def give_back(self, source: int, tokens: int) -> None:
        """Count tokens that were cropped as not taken."""
        self._mixture.add(source, -tokens)

    def cursor(self) -> dict[str, Any]:
        return {
            "sources": {
                stream.name: {**attrs.asdict(stream.position(self._lane)), "tokens": tokens}
                for stream, tokens in zip(self._streams, self._mixture.taken, strict=True)
            }
        }

    def resume(self, cursor: Mapping[str, Any]) -> None:
        for number, stream in enumerate(self._streams):
            saved = dict(cursor["sources"][stream.name])
            self._mixture.taken[number] = saved.pop("tokens")
            stream.seek(self._lane, Position(**saved))


class _BestFitLane:
    """A lane whose rows begin with BOS and are filled from a buffer of documents."""

    def __init__(self, feed: _Feed, room: int, size: int) -> None:
        self._feed, self._room, self._size = feed, room, size
        self._buffer = FitBuffer(room)

    def row(self) -> list[Document]:
        pieces = best_fit_row(self._buffer, self._refill)
        for piece in pieces:
            self._feed.give_back(piece.source, min(piece.length, self._room) - len(piece.ids))
        return pieces

    def _refill(self) -> None:
        while len(self._buffer) < self._size:
            source = self._feed.due()
            # A source's epoch is used up before its next begins. Meanwhile the buffer shrinks: taking from another
            # source instead would let documents that fit nowhere hold up their source, and so its share, for good.
            if self._buffer.of_source[source] and self._feed.begins_epoch(source):
                return
            self._buffer.add(self._feed.take(source, self._room))

    def cursor(self) -> dict[str, Any]:
        return self._feed.cursor()

    def held(self) -> Iterable[Document]:
        return self._buffer.note()

    def resume(self, cursor: Mapping[str, Any], held: Iterable[Document]) -> None:
        self._feed.resume(cursor)
        self._buffer = FitBuffer(self._room)
        for document in held:
            self._buffer.add(document)


class _StreamLane:
    """A lane whose documents follow one another without a gap, whatever a row begins with."""

    def __init__(self, feed: _Feed, room: int) -> None:
        self._feed, self._room = feed, room
        self._rest: deque[Document] = deque()

    def row(self) -> list[Document]:
        return stream_row(self._rest, self._room, lambda: self._feed.take(self._feed.due()))

    def cursor(self) -> dict[str, Any]:
        return self._feed.cursor()

    def held(self) -> Iterable[Document]:
        return list(self._rest)

    def resume(self, cursor: Mapping[str, Any], held: Iterable[Document]) -> None:
        self._feed.resume(cursor)
        self._rest = deque(held)
