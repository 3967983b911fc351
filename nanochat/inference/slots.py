"""Who owns which slot of the cache, and whose keys and values a slot holds: what a new prompt need not compute again.

In: requests. Out: a slot, how many of the request's first ids it holds already, and what is to be copied for it from
another slot. A slot that was left stays warm until another request needs it, the one left longest ago first. Only
requests with one salt share anything, so that nobody learns from the time an answer takes what others have asked.
"""

from collections.abc import Sequence

import attrs

from nanochat.inference.request import Request

BLOCK = 64
"""Ids that are compared at once."""
LEAST_COPIED = 8
"""A shorter prefix is computed again sooner than copied."""


@attrs.frozen
class Copy:
    """The first `length` positions of one slot are also those of another."""

    source: int
    target: int
    length: int


@attrs.define
class Slot:
    """The ids whose keys and values it holds, when it was left, and whose it is, if anyone's."""

    salt: str = ""
    ids: Sequence[int] = ()
    left: int = 0
    owner: Request | None = None


class Slots:
    """All slots of a cache. Without `reuse` nothing is shared and nothing stays warm."""

    def __init__(self, count: int, *, reuse: bool) -> None:
        self.reuse = reuse
        self.slots = [Slot() for _ in range(count)]
        self._clock = 0

    def take(self, request: Request) -> Copy | None:
        """Give the request a slot, if any is free, and what it can use of all that is held."""
        free = [number for number, slot in enumerate(self.slots) if slot.owner is None]
        if not free:
            return None
        # The lowest of those left longest ago: live rows stay side by side, where the cache is read without a copy.
        chosen = min(free, key=lambda number: self.slots[number].left)
        source, length = self._best(request)
        # In place, where that costs the slot little; a long conversation is not given up for a few common words.
        if source in free and 2 * length >= len(self.slots[source].ids):
            chosen = source
        self.slots[chosen].owner, request.slot = request, chosen
        return self._use(request, source, length)

    def adopt(self, request: Request) -> Copy | None:
        """Use what another slot holds by now, if that is more than the request's own does."""
        source, length = self._best(request)
        return self._use(request, source, length) if length >= request.cached + LEAST_COPIED else None

    def may_adopt(self, request: Request, filled: Request) -> bool:
        """Whether what is being computed for one request will serve another."""
        if not self.reuse or not request.in_prompt or request.sampling.prompt_logprobs or request.salt != filled.salt:
            return False
        least = request.cached + LEAST_COPIED
        return common_prefix(request.ids, filled.ids, min(len(request.ids), len(filled.ids)) - 1) >= least

    def forget(self) -> None:
        """What slots hold that nobody owns serves nobody any more."""
        for slot in self.slots:
            slot.ids = ()

    def leave(self, request: Request) -> None:
        """Free the request's slot; what it holds stays."""
        assert request.slot is not None
        self._clock += 1
        held = request.ids[: request.cached] if self.reuse else ()
        self.slots[request.slot] = Slot(request.salt, held, self._clock)
        request.slot = None

    def _use(self, request: Request, source: int, length: int) -> Copy | None:
        assert request.slot is not None
        copy = Copy(source, request.slot, length)
        if source != request.slot and length < LEAST_COPIED:
            copy = attrs.evolve(copy, length=0)
        request.cached = copy.length
        request.reused = copy.length
        return copy

    def _best(self, request: Request) -> tuple[int, int]:
        """The slot with the longest common prefix, and its length; one id at least is left to be computed."""
        best, longest = 0, 0
        if not self.reuse or request.sampling.prompt_logprobs:
            return best, longest
        for number, slot in enumerate(self.slots):
            owner = slot.owner
            if owner is request or (slot.salt if owner is None else owner.salt) != request.salt:
                continue
            ids, held = (slot.ids, len(slot.ids)) if owner is None else (owner.ids, owner.cached)
            length = common_prefix(request.ids, ids, min(held, len(request.ids) - 1))
            if length > longest:
                best, longest = number, length
        return best, longest


def common_prefix(a: Sequence[int], b: Sequence[int], limit: int) -> int:
    """How many of the first `limit` ids of both are equal."""
    place = 0
    while place < limit and a[place : min(place + BLOCK, limit)] == b[place : min(place + BLOCK, limit)]:
        place += BLOCK
    while place < limit and a[place] == b[place]:
        place += 1
    return min(place, limit)
