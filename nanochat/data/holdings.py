"""Things that are held for a while, in order of arrival, and what was held at any moment that was noted.

In: things that come and go. Out: what is held now; and notes, which cost the same however much is held. All notes share
a list of what was held at some time and a journal of what came and went since: each knows how far the journal had come.
Now and then both begin anew, so that the journal stays short and what has gone is not kept for long. What a note has
seen is only ever appended to: it may be read on another thread than the one on which things come and go.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

import attrs

T = TypeVar("T")

SHORTEST = 64
"""Entries that a journal may always have."""
SHARE = 4
"""Beyond that, it may have one for every so many things that are held. So what is copied is 4 things for each that
comes or goes, and of what has gone, an eighth of what is held stays in memory."""


@attrs.frozen(eq=False)
class Note(Generic[T]):
    """What was held at a moment."""

    _before: dict[int, T]
    _journal: list[tuple[int, T | None]]
    _length: int

    def __iter__(self) -> Iterator[T]:
        """In order of arrival."""
        held = dict(self._before)
        for arrival, thing in self._journal[: self._length]:
            if thing is None:
                del held[arrival]
            else:
                held[arrival] = thing
        return iter(held.values())


class Holdings(Generic[T]):
    """What is held now. A thing is known by the number of its arrival."""

    def __init__(self) -> None:
        self._now: dict[int, T] = {}
        self._before: dict[int, T] = {}
        self._journal: list[tuple[int, T | None]] = []
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._now)

    def put(self, thing: T) -> int:
        """Take a thing in; the number of its arrival."""
        arrival = self._arrivals
        self._arrivals += 1
        self._now[arrival] = thing
        self._enter(arrival, thing)
        return arrival

    def pop(self, arrival: int) -> T:
        """Let a thing go."""
        thing = self._now.pop(arrival)
        self._enter(arrival, None)
        return thing

    def note(self) -> Note[T]:
        """What is held now, whatever comes and goes later."""
        return Note(self._before, self._journal, len(self._journal))

    def _enter(self, arrival: int, thing: T | None) -> None:
        self._journal.append((arrival, thing))
        if len(self._journal) > SHORTEST + len(self._now) // SHARE:
            self._before, self._journal = dict(self._now), []
