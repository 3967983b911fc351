"""The one thread that owns the engine and torch, and the doors to it from an event loop.

In: prompts, from coroutines. Out: for each an `Answer` that yields what is written as it is written. Messages go in by
a queue that the thread empties before each step; they come back through the loop. Leaving an answer cancels it.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Self

import attrs

from nanochat.errors import NanochatError
from nanochat.inference.engine import Engine
from nanochat.inference.request import Completion, Request
from nanochat.inference.sampling import Sampling
from nanochat.inference.transcript import Part

log = logging.getLogger(__name__)


class Overloaded(Exception):
    """More answers are open than the server keeps waiting."""


class EngineFailed(Exception):
    """The engine raised while it was answering, or has been stopped."""


@attrs.frozen(kw_only=True)
class Update:
    """What was added to an answer; the completion with the last one."""

    parts: list[Part]
    completion: Completion | None = None


Message = Update | Exception | None
"""What the thread tells a coroutine; None: the prompt was accepted."""


@attrs.define(eq=False)
class _Ticket:
    """One prompt as it travels between the two sides."""

    prompt: Sequence[int]
    sampling: Sampling
    deliver: Callable[[Message], object]
    request: Request | None = None


class Answer:
    """An accepted prompt: iterate for updates, use as a context manager so that leaving it early cancels it."""

    def __init__(self, thread: "EngineThread", prompt: Sequence[int], sampling: Sampling) -> None:
        loop = asyncio.get_running_loop()
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._thread = thread
        self._ticket = _Ticket(
            prompt, sampling, lambda message: loop.call_soon_threadsafe(self._messages.put_nowait, message)
        )

    async def __aenter__(self) -> Self:
        """Wait until the engine has accepted the prompt. InputError where it does not fit."""
        self._thread.send("submit", self._ticket)
        try:
            message = await self._messages.get()
        except asyncio.CancelledError:
            self._thread.send("cancel", self._ticket)
            raise
        if isinstance(message, Exception):
            raise message
        return self

    async def __aexit__(self, *_: object) -> None:
        self._thread.send("cancel", self._ticket)

    async def __aiter__(self) -> AsyncIterator[Update]:
        while True:
            message = await self._messages.get()
            if isinstance(message, Exception):
                raise message
            assert message is not None
            yield message
            if message.completion is not None:
                return

    async def completion(self) -> Completion:
        """The whole answer."""
        async for update in self:
            if update.completion is not None:
                return update.completion
        raise AssertionError("an answer ends with its completion")


class EngineThread:
    """Runs the engine's steps as long as there is anything to answer."""

    def __init__(self, engine: Engine, *, capacity: int) -> None:
        self.engine, self.capacity = engine, capacity
        self._inbox: queue.SimpleQueue[tuple[str, _Ticket | None]] = queue.SimpleQueue()
        self._open: dict[Request, _Ticket] = {}
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
        return len(self._open) + self._inbox.qsize()

    def answer(self, prompt: Sequence[int], sampling: Sampling) -> Answer:
        """A prompt's answer, to be entered. Raises Overloaded where too many are open."""
        if self.ended is not None:
            raise EngineFailed(self.ended)
        if self.open >= self.capacity:
            raise Overloaded
        return Answer(self, prompt, sampling)

    def send(self, what: str, ticket: _Ticket) -> None:
        """Tell the thread: submit or cancel. Where it has ended the ticket hears EngineFailed."""
        with self._ending:
            if self.ended is None:
                self._inbox.put((what, ticket))
                return
        _deliver(ticket, EngineFailed(self.ended))

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

    def _submit(self, ticket: _Ticket) -> None:
        try:
            ticket.request = self.engine.submit(ticket.prompt, ticket.sampling)
        except NanochatError as fault:
            _deliver(ticket, fault)
        except Exception as fault:
            log.exception("a prompt was not accepted")
            _deliver(ticket, EngineFailed(str(fault)))
        else:
            self._open[ticket.request] = ticket
            _deliver(ticket, None)

    def _report(self, request: Request) -> None:
        parts = request.transcript.take()
        done = request.finish_reason is not None
        if parts or done:
            _deliver(self._open[request], Update(parts=parts, completion=request.completion() if done else None))
        if done:
            del self._open[request]

    def _abandon(self, fault: Exception) -> None:
        for request, ticket in self._open.items():
            self.engine.cancel(request)
            _deliver(ticket, EngineFailed(str(fault)))
        self._open.clear()

    def _end(self, reason: str) -> None:
        with self._ending:
            self.ended = reason
        tickets = list(self._open.values())
        while not self._inbox.empty():
            what, ticket = self._inbox.get()
            if ticket is not None and what == "submit":
                tickets.append(ticket)
        for ticket in tickets:
            _deliver(ticket, EngineFailed(reason))
        self._open.clear()


def _deliver(ticket: _Ticket, message: Message) -> None:
    try:
        ticket.deliver(message)
    except RuntimeError:  # the loop has been closed: nobody is left to hear it
        log.debug("an answer came after its listener's event loop was closed")
