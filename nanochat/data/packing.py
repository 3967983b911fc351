"""Packing: documents of any length into rows of exactly `room` ids. Pure, deterministic, and of one lane.

In: tokenised documents, each beginning with BOS. Out: for each row, the pieces that fill it, in order. Three packings:
best fit (rows begin with BOS, nothing is left over, documents are cropped), stream (nothing is lost, rows may begin
inside a document), padded (best fit that leaves room empty instead of cropping: for conversations).
Not here: where documents come from, when a buffer is refilled, and tensors.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection
from heapq import heappop, heappush

import attrs
import numpy as np
from numpy.typing import NDArray

from nanochat.data.holdings import Holdings, Note

Ids = NDArray[np.uint16] | NDArray[np.uint32]
Mask = NDArray[np.bool_]


@attrs.frozen(eq=False)
class Document:
    """A tokenised document, or the piece of one that a row takes."""

    ids: Ids
    mask: Mask | None = None
    """Which ids are learnt as targets; None: all of them."""
    source: int = 0
    """The number of the source it came from."""
    length: int = attrs.field()
    """Ids of the whole document: what the packing compares, also where only its beginning is kept."""

    @length.default
    def _all_its_ids(self) -> int:
        return len(self.ids)

    def head(self, count: int) -> "Document":
        """Its first `count` ids, copied, so that the rest is not kept in memory."""
        mask = None if self.mask is None else self.mask[:count].copy()
        return Document(self.ids[:count].copy(), mask, self.source, self.length)

    def tail(self, start: int) -> "Document":
        """What follows its first `start` ids."""
        mask = None if self.mask is None else self.mask[start:]
        return Document(self.ids[start:], mask, self.source, self.length)


class FitBuffer:
    """Documents to choose from: the longest that fits into a room, or the shortest of all; the oldest among equals.

    The lengths that occur, up to `room`, are the bits of one integer, so a search costs the same for ten documents
    and for a hundred thousand. Longer ones never fit a row: they wait in a heap, with only the ids a row could take.
    """

    def __init__(self, room: int) -> None:
        assert room > 0
        self.room = room
        self.of_source: Counter[int] = Counter()
        """How many of the documents came from each source."""
        self._held: Holdings[Document] = Holdings()
        self._by_length: dict[int, deque[int]] = {}  # arrivals
        self._lengths = 0  # bit n is set where a document of n ids is here
        self._overlong: list[tuple[int, int]] = []  # a heap of (length, arrival)

    def __len__(self) -> int:
        return len(self._held)

    def note(self) -> Note[Document]:
        """All documents in order of arrival: added to an empty buffer in this order, they make an equal one."""
        return self._held.note()

    def add(self, document: Document) -> None:
        """Put in a document of at least one id."""
        length = document.length
        assert length > 0, "a document without ids cannot be packed"
        if length > self.room:
            document = document.head(self.room) if len(document.ids) > self.room else document
            heappush(self._overlong, (length, self._held.put(document)))
        else:
            self._by_length.setdefault(length, deque()).append(self._held.put(document))
            self._lengths |= 1 << length
        self.of_source[document.source] += 1

    def take_longest(self, room: int) -> Document | None:
        """Take out the longest document of at most `room` ids; None where all are longer."""
        fitting = self._lengths & ((2 << min(room, self.room)) - 1)
        return self._take_of(fitting.bit_length() - 1) if fitting else None

    def take_shortest(self) -> Document:
        """Take out the shortest document. The buffer must not be empty."""
        if self._lengths:
            return self._take_of((self._lengths & -self._lengths).bit_length() - 1)
        return self._take(heappop(self._overlong)[1])

    def _take_of(self, length: int) -> Document:
        queue = self._by_length[length]
        arrival = queue.popleft()
        if not queue:
            del self._by_length[length]
            self._lengths ^= 1 << length
        return self._take(arrival)

    def _take(self, arrival: int) -> Document:
        document = self._held.pop(arrival)
        self.of_source[document.source] -= 1
        return document


def best_fit_row(buffer: FitBuffer, refill: Callable[[], None]) -> list[Document]:
    """One row without padding: again and again the longest document that fits whole, else the shortest, cropped.

    `refill` is called before each choice and must leave the buffer with at least one document.
    """
    pieces: list[Document] = []
    room = buffer.room
    while room:
        refill()
        piece = buffer.take_longest(room) or buffer.take_shortest().head(room)
        pieces.append(piece)
        room -= len(piece.ids)
    return pieces


def padded_row(buffer: FitBuffer, refill: Callable[[], None]) -> list[Document]:
    """One row that may stay partly empty: again and again the longest document that fits whole, until none does.

    No document of the buffer may be longer than a row, else it would never leave the buffer: see `cut_length`.
    """
    pieces: list[Document] = []
    room = buffer.room
    while room:
        refill()
        piece = buffer.take_longest(room)
        if piece is None:
            break
        pieces.append(piece)
        room -= len(piece.ids)
    assert pieces, "only documents longer than a row"
    return pieces


def stream_row(rest: deque[Document], room: int, take: Callable[[], Document]) -> list[Document]:
    """One row of a running stream: what was left of the last document, then whole ones, the last one split.

    `rest` holds what is left over between rows, none or one document; `take` gives the next one.
    """
    pieces: list[Document] = []
    while room:
        document = rest.popleft() if rest else take()
        if len(document.ids) > room:
            rest.append(document.tail(room))
            document = document.head(room)
        pieces.append(document)
        room -= len(document.ids)
    return pieces


def cut_length(ids: Ids, mask: Mask, room: int, turn_ends: Collection[int]) -> int:
    """How many ids of a conversation a row of `room` takes: all; else up to the last whole turn; else `room`.

    `turn_ends` are the ids that end a turn. A cut at a turn's end that would leave nothing to learn (the answer is what
    is too long) is no use: then too the row is filled. The first id is never a target at a row's beginning.
    """
    if len(ids) <= room:
        return len(ids)
    ends = np.flatnonzero(np.isin(ids[:room], list(turn_ends)))
    if len(ends) and mask[1 : ends[-1] + 1].any():
        return int(ends[-1]) + 1
    return room
