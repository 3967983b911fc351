"""What was held at any moment that was noted, against a list that is copied each time."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.data import holdings
from nanochat.data.holdings import Holdings


@given(st.lists(st.integers(-5, 30), max_size=300), st.integers(1, 9), st.integers(0, 9))
def test_a_note_tells_what_was_held_then_whatever_comes_and_goes_later(moves: list[int], share: int, shortest: int):
    """Below 0, a thing comes; else the one at that place, where there is one, goes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holdings, "SHARE", share)
        patch.setattr(holdings, "SHORTEST", shortest)
        held: Holdings[str] = Holdings()
        copied: list[tuple[int, str]] = []
        noted = [(held.note(), list(copied))]
        for number, move in enumerate(moves):
            if move < 0:
                copied.append((held.put(f"thing {number}"), f"thing {number}"))
            elif move < len(copied):
                arrival, thing = copied.pop(move)
                assert held.pop(arrival) == thing
            noted.append((held.note(), list(copied)))
            assert len(held) == len(copied)
    assert [list(note) for note, _ in noted] == [[thing for _, thing in things] for _, things in noted]


def test_a_note_costs_the_same_however_much_is_held():
    """Nothing is copied for it: all notes share two lists, and know how much of one of them is theirs."""
    held: Holdings[int] = Holdings()
    for n in range(10_000):
        held.put(n)
    one = held.note()
    held.pop(3)
    other = held.note()
    assert one._before is other._before
    assert one._journal is other._journal
    assert list(one) == list(range(10_000))
    assert list(other) == [n for n in range(10_000) if n != 3]


def test_of_what_has_gone_no_more_is_kept_than_a_part_of_what_is_held():
    held: Holdings[int] = Holdings()
    for n in range(1_000):
        held.put(n)
        if n >= 100:
            held.pop(n - 100)
        note = held.note()
        kept = {*note._before.values(), *(thing for _, thing in note._journal if thing is not None)}
        assert len(kept) <= 100 + holdings.SHORTEST + 100 // holdings.SHARE + 1


def test_a_note_is_read_on_one_thread_while_things_come_and_go_on_another():
    held: Holdings[int] = Holdings()
    for n in range(500):
        held.put(n)
    note, ended = held.note(), threading.Event()

    def go_on() -> None:
        for n in range(20_000):
            held.put(500 + n)
            held.pop(n)
        ended.set()

    thread = threading.Thread(target=go_on)
    thread.start()
    while not ended.is_set():
        assert list(note) == list(range(500))
    thread.join()
