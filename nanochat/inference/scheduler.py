"""Who computes next: slots for waiting requests, and the batches of one step.

In: requests as they come and go. Out: for each step one batch of every row that has a single id to feed (decoding), and
one chunk's worth of ids of those that have more (a prompt, or a forced tool result), who waited longest first, rows of
one length together. So neither a long prompt holds up those who are being answered, nor they a prompt. Rows whose tool
is at work are left out.
"""

from collections import deque
from collections.abc import Sequence

import attrs

from nanochat.inference.request import Request
from nanochat.inference.slots import Copy, Slots

CHUNK_SECONDS = 0.05
"""How long the rows that are being answered may be held up by a chunk of a prompt, where chunks are timed."""
CHUNK_LIMITS = (64, 1024)
UNTIMED_CHUNK = 256
"""A chunk before any was timed, and where somebody watches but time may decide nothing."""


@attrs.frozen(kw_only=True)
class Batch:
    """Rows, by ascending slot, and how many ids each of them feeds."""

    requests: Sequence[Request]
    count: int

    @property
    def decodes(self) -> bool:
        """Whether each feeds one id and writes one."""
        return self.count == 1 and all(_decodes(request) for request in self.requests)


@attrs.frozen(kw_only=True)
class Step:
    """What one step computes: copies within the cache first, then the batches."""

    copies: Sequence[Copy]
    batches: Sequence[Batch]


class Scheduler:
    """The waiting line and the slots. chunk: ids of a prompt fed in one step; None: as many as take CHUNK_SECONDS.

    alone: every row is a batch of its own, and a prompt's chunks are cut where it alone says.
    """

    def __init__(self, *, slots: int, chunk: int | None, reuse: bool = True, alone: bool = False) -> None:
        self.timed, self.chunk, self.alone = chunk is None, chunk or UNTIMED_CHUNK, alone
        self.waiting: deque[Request] = deque()
        self.slots = Slots(slots, reuse=reuse)
        self._seconds_per_id = CHUNK_SECONDS / self.chunk
        self._step = 0

    @property
    def live(self) -> list[Request]:
        """The requests that have a slot, by ascending slot."""
        return [slot.owner for slot in self.slots.slots if slot.owner is not None]

    @property
    def busy(self) -> bool:
        """Whether any request is waiting or being answered."""
        return bool(self.waiting or self.live)

    def add(self, request: Request) -> None:
        """Put a request at the end of the line."""
        self.waiting.append(request)

    def schedule(self) -> Step:
        """Give free slots to those who wait, then choose what this step computes."""
        self._step += 1
        copies: list[Copy] = []
        while self.waiting and (copy := self.slots.take(self.waiting[0])) is not None:
            request = self.waiting.popleft()
            request.last_fill = self._step
            copies.append(copy)
        rows = [request for request in self.live if request.call is None]
        filling = self._to_fill([request for request in rows if not _decodes(request)], copies)
        decoding = [request for request in rows if _decodes(request)]
        groups = [[request] for request in decoding] if self.alone else [decoding] if decoding else []
        batches = [Batch(requests=group, count=1) for group in groups]
        needed = [copy for copy in copies if copy.length and copy.source != copy.target]
        return Step(copies=needed, batches=batches + filling)

    def _to_fill(self, rows: list[Request], copies: list[Copy]) -> list[Batch]:
        """A chunk's worth of ids, of the rows whose turn it is. What others have computed meanwhile a row copies: so of
        several answers to one prompt the prompt is computed once.
        """
        groups: list[tuple[int, list[Request]]] = []
        room = self.chunk
        for request in sorted(rows, key=lambda request: request.last_fill):
            if room <= 0:
                break
            if any(self.slots.may_adopt(request, other) for _, group in groups for other in group):
                continue  # what it needs is being computed: it copies it in the next step
            request.last_fill = self._step
            if request.in_prompt and (copy := self.slots.adopt(request)) is not None:
                copies.append(copy)
            if not _decodes(request):
                count = min(request.pending, self.chunk if self.alone else room)
                self._join(groups, request, count)
                room -= count
        return [Batch(requests=sorted(group, key=lambda one: one.slot or 0), count=count) for count, group in groups]

    def _join(self, groups: list[tuple[int, list[Request]]], request: Request, count: int) -> None:
        """Rows whose whole rest is as long go in one pass, not one each; those whose prompt is told of go alone."""
        for other_count, group in [] if self.alone else groups:
            if other_count == count and all(_is_plain(one) and one.pending == count for one in (request, group[0])):
                group.append(request)
                return
        groups.append((count, [request]))

    def note_fill(self, count: int, seconds: float) -> None:
        """A chunk of so many ids took so long: the next one is sized by it, where chunks are timed."""
        if self.timed and count >= CHUNK_LIMITS[0] // 2:
            # Other processes may only make it slower: it rises slowly, and falls at once.
            self._seconds_per_id = min(seconds / count, 1.2 * self._seconds_per_id)
            low, high = CHUNK_LIMITS
            self.chunk = max(low, min(high, int(CHUNK_SECONDS / self._seconds_per_id) // low * low))

    def release(self, request: Request) -> None:
        """Take a finished request out of its slot."""
        self.slots.leave(request)

    def cancel(self, request: Request) -> None:
        """Take a request out, wherever it is; one that has finished stays as it is."""
        if request.finish_reason is not None:
            return
        request.finish("cancelled")
        if request.slot is None:
            self.waiting.remove(request)
        else:
            self.release(request)


def _is_plain(request: Request) -> bool:
    return request.room > 0 and not request.telling


def _decodes(request: Request) -> bool:
    """Whether one id is fed and one is written."""
    return request.pending == 1 and _is_plain(request)
