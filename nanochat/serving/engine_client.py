"""An engine as the endpoints see it: ask it, iterate over what it writes, leave early and the answer is cancelled.

In: jobs (prompts), from coroutines. Out: for each group of them an `Answer` that yields what is written as it is
written. What the engine tells comes from a thread of its link's, and goes on through each event loop at once.
"""

import asyncio
import itertools
import logging
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Self

import attrs

from nanochat.serving.jobs import About, EngineFailed, Job, Link, Message, Update

log = logging.getLogger(__name__)


class Overloaded(Exception):
    """More answers are open than the server keeps waiting."""


class TookTooLong(Exception):
    """The answer's time is over."""


Told = tuple[int, Message]
"""Which of an answer's choices, and what of it."""


@attrs.define(eq=False)
class _Ticket:
    """One job that is under way."""

    number: int
    job: Job
    choice: int
    told: "asyncio.Queue[Told]"
    loop: asyncio.AbstractEventLoop


class Answer:
    """Jobs on their way: iterate for updates, each with its choice; leaving the context manager early cancels them.

    seconds: after which it raises TookTooLong, waiting included.
    """

    def __init__(self, client: "EngineClient", jobs: Sequence[Job], seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[Told] = asyncio.Queue()
        self._client = client
        self._tickets = client.tickets(jobs, self._told, loop)
        # One message, not a limit around each wait for one: that would cost more than all else of an update.
        late = TookTooLong(f"the answer took longer than {seconds:g} seconds; ask for fewer tokens")
        self._deadline = loop.call_later(seconds, self._told.put_nowait, (0, late))

    async def __aenter__(self) -> Self:
        """Wait until the engine has accepted every prompt. InputError where one does not fit."""
        try:
            self._client.submit(self._tickets)
            early = []
            accepted = 0
            while accepted < len(self._tickets):
                choice, message = await self._told.get()
                if isinstance(message, Exception):
                    raise message
                if message == "accepted":
                    accepted += 1
                else:
                    early.append((choice, message))
        except BaseException:
            self._leave()
            raise
        for told in early:
            self._told.put_nowait(told)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        self._deadline.cancel()
        self._client.cancel(self._tickets)

    async def __aiter__(self) -> AsyncIterator[tuple[int, Update]]:
        unfinished = len(self._tickets)
        while unfinished:
            choice, message = await self._told.get()
            if isinstance(message, Exception):
                raise message
            assert isinstance(message, Update)
            unfinished -= message.completion is not None
            yield choice, message


class EngineClient:
    """Asks one engine. capacity: answers that may be open at once."""

    def __init__(self, link: Link, *, capacity: int) -> None:
        self.capacity = capacity
        self.ended: str | None = None
        """Why no prompt is answered any more."""
        self._link = link
        self._numbers = itertools.count()
        self._open: dict[int, _Ticket] = {}
        """Those that were sent and have not ended: added to by the event loop, taken from by the link's thread."""
        self._ending = threading.Lock()  # between the link's end and a prompt that comes just then

    @property
    def about(self) -> About:
        """What is known of the engine."""
        return self._link.about

    @property
    def pid(self) -> int | None:
        """Of the engine's process, if it has one of its own."""
        return self._link.pid

    @property
    def open(self) -> int:
        """How many answers are being written or waited for."""
        return len(self._open)

    def start(self) -> None:
        """Begin to hear the engine."""
        self._link.start(self._hear, self._end)

    def stop(self) -> None:
        """Let it finish its step, end what is open with EngineFailed, and return when it has ended."""
        self._link.stop()

    def answer(self, jobs: Sequence[Job], seconds: float) -> Answer:
        """The jobs' answer, to be entered. Raises Overloaded where too many are open."""
        if self.ended is not None:
            raise EngineFailed(self.ended)
        if self.open + len(jobs) > self.capacity:
            raise Overloaded
        return Answer(self, jobs, seconds)

    def tickets(
        self, jobs: Sequence[Job], told: "asyncio.Queue[Told]", loop: asyncio.AbstractEventLoop
    ) -> Sequence[_Ticket]:
        """Numbers for jobs whose messages go into `told`."""
        return [_Ticket(next(self._numbers), job, choice, told, loop) for choice, job in enumerate(jobs)]

    def submit(self, tickets: Sequence[_Ticket]) -> None:
        """Send the jobs. Where the engine has ended they hear EngineFailed."""
        with self._ending:
            if (ended := self.ended) is None:
                self._open.update((ticket.number, ticket) for ticket in tickets)
        if ended is None:
            self._link.post([(ticket.number, ticket.job) for ticket in tickets])
            return
        for ticket in tickets:
            ticket.told.put_nowait((ticket.choice, EngineFailed(ended)))

    def cancel(self, tickets: Sequence[_Ticket]) -> None:
        """Let go of those that have not ended. They are open until the engine has done so."""
        if orders := [(ticket.number, None) for ticket in tickets if ticket.number in self._open]:
            self._link.post(orders)

    # In the link's thread

    def _hear(self, told: Sequence[tuple[int, Message]]) -> None:
        """Hand over what one step has told, by one call into each event loop."""
        heard = []
        for number, message in told:
            ends = message == "cancelled" or isinstance(message, Exception) or (
                isinstance(message, Update) and message.completion is not None
            )  # fmt: skip
            ticket = self._open.pop(number) if ends else self._open[number]
            if message != "cancelled":
                heard.append((ticket, message))
        self._deliver(heard)

    def _end(self, reason: str) -> None:
        with self._ending:
            self.ended = reason
            left = list(self._open.values())
            self._open.clear()
        self._deliver([(ticket, EngineFailed(reason)) for ticket in left])

    def _deliver(self, heard: Sequence[tuple[_Ticket, Message]]) -> None:
        by_loop = defaultdict(list)
        for ticket, message in heard:
            by_loop[ticket.loop].append((ticket.told, (ticket.choice, message)))
        for loop, messages in by_loop.items():
            try:
                loop.call_soon_threadsafe(_put_all, messages)
            except RuntimeError:  # the loop has been closed: nobody is left to hear it
                log.debug("%d messages came after their listeners' event loop was closed", len(messages))


def _put_all(messages: "Sequence[tuple[asyncio.Queue[Told], Told]]") -> None:
    for waiting, told in messages:
        waiting.put_nowait(told)
