"""The one thread that owns an engine and torch, and the doors to it from an event loop.

In: jobs (prompts), from coroutines. Out: for each group of them an `Answer` that yields what is written as it is
written. Messages go in by a queue that the thread empties before each step; they come back through the loop, those of
one step together. Leaving an answer cancels it.
"""

import asyncio
import logging
import queue
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Self

import attrs

from nanochat.errors import NanochatError
from nanochat.inference.engine import Engine
from nanochat.inference.logprobs import Told
from nanochat.inference.request import Completion, Request
from nanochat.inference.sampling import Sampling
from nanochat.inference.transcript import Part

log = logging.getLogger(__name__)


class Overloaded(Exception):
    """More answers are open than the server keeps waiting."""


class EngineFailed(Exception):
    """The engine raised while it was answering, or has been stopped."""


class TookTooLong(Exception):
    """The answer's time is over."""


@attrs.frozen(kw_only=True)
class Job:
    """A prompt to be answered. Only jobs of one salt share what is cached."""

    prompt: Sequence[int]
    sampling: Sampling
    salt: str = ""


@attrs.frozen(kw_only=True)
class Update:
    """What was added to one of an answer's choices; the completion with the last one."""

    choice: int
    parts: Sequence[Part] = ()
    told: Sequence[Told] = ()
    prompt_told: Sequence[Told] = ()
    completion: Completion | None = None


Message = Update | Exception | None
"""What the thread tells a coroutine; None: a prompt was accepted."""


@attrs.define(eq=False)
class _Ticket:
    """One job as it travels between the two sides."""

    job: Job
    choice: int
    messages: "asyncio.Queue[Message]"
    loop: asyncio.AbstractEventLoop
    request: Request | None = None


class Answer:
    """Jobs on their way: iterate for updates, use as a context manager so that leaving it early cancels them.

    seconds: after which it raises TookTooLong, waiting included.
    """

    def __init__(self, thread: "EngineThread", jobs: Sequence[Job], seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._thread = thread
        self._tickets = [_Ticket(job, choice, self._messages, loop) for choice, job in enumerate(jobs)]
        # One message, not a limit around each wait for one: that would cost more than all else of an update.
        late = TookTooLong(f"the answer took longer than {seconds:g} seconds; ask for fewer tokens")
        self._deadline = loop.call_later(seconds, self._messages.put_nowait, late)

    async def __aenter__(self) -> Self:
        """Wait until the engine has accepted every prompt. InputError where one does not fit."""
        try:
            self._thread.send("submit", self._tickets)
            early = []
            accepted = 0
            while accepted < len(self._tickets):
                message = await self._messages.get()
                if isinstance(message, Exception):
                    raise message
                accepted += message is None
                early += [message] if message is not None else []
        except BaseException:
            self._leave()
            raise
        for message in early:
            self._messages.put_nowait(message)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        self._deadline.cancel()
        self._thread.send("cancel", self._tickets)

    async def __aiter__(self) -> AsyncIterator[Update]:
        unfinished = len(self._tickets)
        while unfinished:
            message = await self._messages.get()
            if isinstance(message, Exception):
                raise message
            assert message is not None
            unfinished -= message.completion is not None
            yield message


class EngineThread:
    """Runs the engine's steps as long as there is anything to answer."""

    def __init__(self, engine: Engine, *, capacity: int) -> None:
        self.engine, self.capacity = engine, capacity
        self._inbox: queue.SimpleQueue[tuple[str, _Ticket | None]] = queue.SimpleQueue()
        self._open: dict[Request, _Ticket] = {}
        self._sent = set[_Ticket]()
        """Those that were sent and have not ended: added to by the event loop, taken from by the thread."""
        self._outbox: list[tuple[_Ticket, Message]] = []
        self._ending = threading.Lock()  # between a last look into the inbox and a prompt that comes just then
        self.ended: str | None = None
        """Why no prompt is answered any more."""
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the step, end what is open with EngineFailed, and return when the thread has ended."""
        self._inbox.put(("stop", None))
        self._thread.join()

    @property
    def open(self) -> int:
        """How many answers are being written or waited for."""
        return len(self._sent)

    def answer(self, jobs: Sequence[Job], seconds: float) -> Answer:
        """The jobs' answer, to be entered. Raises Overloaded where too many are open."""
        if self.ended is not None:
            raise EngineFailed(self.ended)
        if self.open + len(jobs) > self.capacity:
            raise Overloaded
        return Answer(self, jobs, seconds)

    def send(self, what: str, tickets: Sequence[_Ticket]) -> None:
        """Tell the thread: submit or cancel, which only those need that have not ended. Where the thread has ended the
        tickets hear EngineFailed.
        """
        with self._ending:
            if self.ended is None:
                if what == "submit":
                    self._sent.update(tickets)
                for ticket in tickets:
                    if ticket in self._sent:
                        self._inbox.put((what, ticket))
                return
        for ticket in tickets:
            ticket.messages.put_nowait(EngineFailed(self.ended))

    # In the thread

    def _run(self) -> None:
        """Answer until asked to stop. However it ends, nobody is left waiting."""
        reason = "the server is shutting down"
        try:
            self._answer()
        except BaseException as fault:  # a thread has nobody above it to tell
            log.exception("the engine's thread failed")
            reason = f"the engine has failed: {fault or type(fault).__name__}"
        self._end(reason)

    def _answer(self) -> None:
        while self._drain():
            self._deliver()
            if not self.engine.scheduler.busy:
                continue
            try:
                moved = self.engine.step()
            except Exception as fault:
                log.exception("the engine failed; %d answers are lost", len(self._open))
                self._abandon(fault)
                continue
            for request in moved:
                self._report(request)
            self._deliver()

    def _drain(self) -> bool:
        """Take every message; wait for one where there is nothing else to do. False: stop."""
        wait = not self.engine.scheduler.busy
        while True:
            try:
                what, ticket = self._inbox.get(block=wait)
            except queue.Empty:
                return True
            wait = False
            if ticket is None:
                return False
            if what == "submit":
                self._submit(ticket)
            elif ticket.request is not None:
                self.engine.cancel(ticket.request)
                self._open.pop(ticket.request, None)
                self._sent.discard(ticket)

    def _submit(self, ticket: _Ticket) -> None:
        job = ticket.job
        try:
            ticket.request = self.engine.submit(job.prompt, job.sampling, salt=job.salt)
        except NanochatError as fault:
            self._refuse(ticket, fault)
        except Exception as fault:
            log.exception("a prompt was not accepted")
            self._refuse(ticket, EngineFailed(str(fault)))
        else:
            self._open[ticket.request] = ticket
            self._outbox.append((ticket, None))

    def _refuse(self, ticket: _Ticket, fault: Exception) -> None:
        self._sent.discard(ticket)
        self._outbox.append((ticket, fault))

    def _report(self, request: Request) -> None:
        ticket = self._open[request]
        parts, told = request.transcript.take(), request.take_told()
        done = request.finish_reason is not None
        if parts or told or done:
            completion = request.completion() if done else None
            update = Update(
                choice=ticket.choice,
                parts=parts,
                told=told,
                prompt_told=request.prompt_told,
                completion=completion,
            )
            self._outbox.append((ticket, update))
        if done:
            del self._open[request]
            self._sent.discard(ticket)

    def _abandon(self, fault: Exception) -> None:
        for request, ticket in self._open.items():
            self.engine.cancel(request)
            self._refuse(ticket, EngineFailed(str(fault)))
        self._open.clear()
        self.engine.forget()  # the step may have ended between what is noted of the cache and what was written there
        self._deliver()

    def _end(self, reason: str) -> None:
        with self._ending:
            self.ended = reason
        tickets = list(self._open.values())
        while not self._inbox.empty():
            what, ticket = self._inbox.get()
            if ticket is not None and what == "submit":
                tickets.append(ticket)
        self._outbox += [(ticket, EngineFailed(reason)) for ticket in tickets]
        self._open.clear()
        self._sent.clear()
        self._deliver()

    def _deliver(self) -> None:
        """Hand over what has gathered, by one call into each event loop."""
        gathered, self._outbox = self._outbox, []
        by_loop = defaultdict(list)
        for ticket, message in gathered:
            by_loop[ticket.loop].append((ticket.messages, message))
        for loop, messages in by_loop.items():
            try:
                loop.call_soon_threadsafe(_put_all, messages)
            except RuntimeError:  # the loop has been closed: nobody is left to hear it
                log.debug("%d messages came after their listeners' event loop was closed", len(messages))


def _put_all(messages: Sequence[tuple["asyncio.Queue[Message]", Message]]) -> None:
    for waiting, message in messages:
        waiting.put_nowait(message)
