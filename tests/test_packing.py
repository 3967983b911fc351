"""Packing, against a plain restatement of its rule and against the properties that a user relies on."""

from collections import deque
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.data.packing import Document, FitBuffer, best_fit_row, cut_length, padded_row, stream_row

BOS = 9_999
USER_END, ASSISTANT_END = 10_001, 10_002

lengths = st.lists(st.integers(1, 40), min_size=1, max_size=60)
rooms = st.integers(1, 24)
sizes = st.integers(1, 12)


def documents(lengths: list[int]) -> list[Document]:
    """Documents of these lengths, each BOS and then ids that occur nowhere else."""
    made, first = [], 0
    for length in lengths:
        made.append(Document(np.array([BOS, *range(first, first + length - 1)], np.uint32)))
        first += length - 1
    return made


def refill_from(waiting: deque[Document], buffer: FitBuffer, size: int) -> Callable[[], None]:
    def refill() -> None:
        while len(buffer) < size and waiting:
            buffer.add(waiting.popleft())

    return refill


def best_fit_rows(lengths: list[int], room: int, size: int) -> list[list[Document]]:
    """All rows that are full before the documents run out."""
    waiting, buffer, rows = deque(documents(lengths)), FitBuffer(room), []
    refill = refill_from(waiting, buffer, size)
    with suppress(IndexError):  # nothing left to take in the middle of a row
        while True:
            rows.append(best_fit_row(buffer, refill))
    return rows


def naive_rows(lengths: list[int], room: int, size: int) -> list[list[list[int]]]:
    """The rule itself: look at every document of the buffer, each time."""
    waiting, buffer, rows = [d.ids.tolist() for d in documents(lengths)], [], []
    while True:
        row, left = [], room
        while left:
            while len(buffer) < size and waiting:
                buffer.append(waiting.pop(0))
            if not buffer:
                return rows
            fitting = [d for d in buffer if len(d) <= left]
            chosen = max(fitting, key=len) if fitting else min(buffer, key=len)  # the first of equals
            buffer.remove(chosen)
            row.append(chosen[:left])
            left -= len(row[-1])
        rows.append(row)


@given(lengths, rooms, sizes)
def test_best_fit_chooses_as_a_search_through_the_whole_buffer_would(lengths, room, size):
    rows = [[piece.ids.tolist() for piece in row] for row in best_fit_rows(lengths, room, size)]

    assert rows == naive_rows(lengths, room, size)


@given(lengths, rooms, sizes)
def test_best_fit_rows_are_full_and_begin_with_bos_and_invent_nothing(lengths, room, size):
    rows = best_fit_rows(lengths, room, size)

    whole = {d.ids[1] if len(d.ids) > 1 else None: d.ids.tolist() for d in documents(lengths)}
    for row in rows:
        assert sum(len(piece.ids) for piece in row) == room
        for piece in row:
            assert piece.ids[0] == BOS
            if len(piece.ids) > 1:
                assert piece.ids.tolist() == whole[piece.ids[1]][: len(piece.ids)]
    used = [int(i) for row in rows for piece in row for i in piece.ids if i != BOS]
    assert len(used) == len(set(used))


@given(lengths, rooms, sizes)
def test_only_the_last_piece_of_a_best_fit_row_is_cropped(lengths, room, size):
    for row in best_fit_rows(lengths, room, size):
        assert all(len(piece.ids) == piece.length for piece in row[:-1])


def test_the_oldest_of_equally_long_documents_goes_first():
    buffer = FitBuffer(8)
    for source in (0, 1, 2):
        buffer.add(Document(np.array([BOS, source], np.uint32), source=source))

    assert [buffer.take_longest(8).source, buffer.take_shortest().source] == [0, 1]


def test_documents_that_cannot_fit_keep_their_true_length_and_only_the_ids_a_row_can_take():
    buffer = FitBuffer(4)
    buffer.add(Document(np.arange(1_000, dtype=np.uint32), source=7))
    buffer.add(Document(np.arange(900, dtype=np.uint32), source=8))

    assert [len(document.ids) for document in buffer.note()] == [4, 4]
    assert buffer.take_longest(4) is None
    assert [buffer.take_shortest().source, buffer.take_shortest().source] == [8, 7]


@given(lengths, rooms, st.lists(st.booleans(), max_size=30))
def test_a_buffer_made_anew_from_its_documents_goes_on_the_same(lengths, room, choices):
    buffer = FitBuffer(room)
    made = documents(lengths)
    for document in made[: len(made) // 2 + 1]:
        buffer.add(document)
    if len(buffer) > 1:
        buffer.take_shortest()
    again = FitBuffer(room)
    for document in buffer.note():
        again.add(document)
    for document in made[len(made) // 2 + 1 :]:
        buffer.add(document)
        again.add(document)

    for longest in choices[: len(buffer)]:
        one, other = (
            (b.take_longest(room) or b.take_shortest()) if longest else b.take_shortest() for b in (buffer, again)
        )
        assert one.ids.tolist() == other.ids.tolist()


@given(lengths, rooms)
def test_a_stream_loses_nothing_and_keeps_the_order(lengths, room):
    made = documents(lengths)
    total = sum(lengths)
    waiting, rest = deque(made), deque()

    rows = [stream_row(rest, room, waiting.popleft) for _ in range(total // room)]

    assert all(sum(len(piece.ids) for piece in row) == room for row in rows)
    flat = [i for row in rows for piece in row for i in piece.ids.tolist()]
    assert flat == [i for d in made for i in d.ids.tolist()][: len(flat)]
    assert len(rest) <= 1


@st.composite
def conversations(draw):
    """BOS, then turns of the user (not learnt) and the assistant (learnt), each ended by its special."""
    ids, mask = [BOS], [0]
    for _ in range(draw(st.integers(0, 4))):
        for end, learnt in ((USER_END, 0), (ASSISTANT_END, 1)):
            count = draw(st.integers(0, 12))
            ids += [*range(count), end]
            mask += [learnt] * (count + 1)
    return np.array(ids, np.uint32), np.array(mask, np.bool_)


@given(conversations(), rooms)
def test_a_long_conversation_is_cut_after_the_last_whole_turn_that_fits(conversation, room):
    ids, mask = conversation

    length = cut_length(ids, mask, room, [USER_END, ASSISTANT_END])

    assert 0 < length <= room
    if len(ids) <= room:
        assert length == len(ids)
        return
    ends = [n + 1 for n in range(room) if ids[n] in (USER_END, ASSISTANT_END)]
    learnable = [n for n in range(1, room) if mask[n]]
    if ends and learnable and learnable[0] < ends[-1]:
        assert length == ends[-1]
    else:
        assert length == room


@pytest.mark.parametrize(
    ("ids", "room", "length"),
    [
        ([BOS, 1, USER_END, 2, ASSISTANT_END, 3, USER_END, 4, 5, ASSISTANT_END], 8, 7),  # after the second question
        ([BOS, 1, USER_END, 2, 3, 4, 5, 6, ASSISTANT_END], 6, 6),  # the answer is too long: as much of it as fits
        ([BOS, 1, 2, 3, 4, USER_END, 5, ASSISTANT_END], 4, 4),  # not even the question fits
    ],
)
def test_where_conversations_are_cut(ids, room, length):
    answering, mask = False, []
    for token in ids:
        mask.append(answering)
        answering = token == USER_END or (answering and token != ASSISTANT_END)

    assert cut_length(np.array(ids), np.array(mask), room, [USER_END, ASSISTANT_END]) == length


@given(st.lists(conversations(), min_size=1, max_size=20), st.integers(4, 24), sizes)
def test_padded_rows_hold_every_conversation_once_with_its_mask(made, room, size):
    cut = []
    for ids, mask in made:
        length = cut_length(ids, mask, room, [USER_END, ASSISTANT_END])
        cut.append(Document(ids[:length], mask[:length]))
    waiting, buffer = deque(cut), FitBuffer(room)
    refill, pieces = refill_from(waiting, buffer, size), []

    while waiting or len(buffer):
        row = padded_row(buffer, refill)
        assert sum(len(piece.ids) for piece in row) <= room
        pieces += row

    def spelled(documents):
        return sorted(list(zip(d.ids.tolist(), d.mask.tolist(), strict=True)) for d in documents)

    assert spelled(pieces) == spelled(cut)
