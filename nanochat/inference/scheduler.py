"""Who computes next: slots for waiting requests, and the batches of one step.

In: requests as they come and go. Out: for each step one batch of every row that has a single id to feed (decoding), and
one chunk of a row that has more (a prompt, or a forced tool result), the one that has waited longest, with others that
have as many, up to a chunk's ids in all. So neither a long prompt holds up those who are being answered, nor they a
prompt.
"""

import heapq
from collections import deque
from collections.abc import Sequence

import attrs

from nanochat.inference.request import Request


@attrs.frozen(kw_only=True)
class Batch:
    """Rows, by ascending slot, and how many ids each of them feeds."""

    requests: Sequence[Request]
    count: int


class Scheduler:
    """The waiting line and the slots."""

    def __init__(self, *, slots: int, chunk: int) -> None:
        self.chunk = chunk
        self.waiting: deque[Request] = deque()
        self.live: dict[int, Request] = {}
        # The lowest free slot first: live rows stay side by side, where the cache is read without a copy.
        self._free = list(range(slots))
        self._step = 0

    @property
    def busy(self) -> bool:
        """Whether any request is waiting or being answered."""
        return bool(self.waiting or self.live)

    def add(self, request: Request) -> None:
        """Put a request at the end of the line."""
        self.waiting.append(request)

    def schedule(self) -> list[Batch]:
        """Give free slots to those who wait, then choose what this step computes."""
        self._step += 1
        while self.waiting and self._free:
            request = self.waiting.popleft()
            request.slot, request.last_fill = heapq.heappop(self._free), self._step
            self.live[request.slot] = request
        rows = [self.live[slot] for slot in sorted(self.live)]
        batches = []
        if decoding := [request for request in rows if request.pending == 1]:
            batches.append(Batch(requests=decoding, count=1))
        if filling := [request for request in rows if request.pending > 1]:
            chosen = min(filling, key=lambda request: request.last_fill)
            count = min(chosen.pending, self.chunk)
            # Those that have as much to feed go along: several answers to one prompt cost one pass, not one each.
            alike = [chosen, *(r for r in filling if r.pending == chosen.pending and r is not chosen)]
            together = sorted(alike[: max(1, self.chunk // count)], key=lambda request: request.slot or 0)
            for request in together:
                request.last_fill = self._step
            batches.append(Batch(requests=together, count=count))
        return batches

    def release(self, request: Request) -> None:
        """Take a finished request out of its slot."""
        assert request.slot is not None
        del self.live[request.slot]
        heapq.heappush(self._free, request.slot)
        request.slot = None

    def cancel(self, request: Request) -> None:
        """Take a request out, wherever it is; one that has finished stays as it is."""
        if request.finish_reason is not None:
            return
        request.finish("cancelled")
        if request.slot is None:
            self.waiting.remove(request)
        else:
            self.release(request)
