"""The loop of an engine that answers jobs: orders in, steps, what was written out.

In: an engine, orders by a queue that is emptied before each step. Out: messages, those of one step together. It runs in
the thread that owns the engine, and torch; which thread, and of which process, is the business of `engine_thread` and
`engine_process`.
"""

import logging
import queue
from typing import TYPE_CHECKING

import attrs

from nanochat.errors import NanochatError
from nanochat.serving.jobs import About, EngineFailed, Hear, Job, Message, Order, Update

if TYPE_CHECKING:
    from nanochat.inference.engine import Engine
    from nanochat.inference.request import Request

log = logging.getLogger(__name__)

SHUTTING_DOWN = "the server is shutting down"


def about(engine: "Engine") -> About:
    """What a server has to know of it."""
    grammar = engine.grammar
    return About(tokenizer=engine.tokenizer, context=engine.context, ends=grammar.ends, tools=bool(grammar.calls))


@attrs.define
class _Open:
    """A job that is being answered."""

    number: int
    begun: bool = False
    """Whether anything was told of it."""


class EngineLoop:
    """Runs the engine's steps as long as there is anything to answer."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.inbox: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        """None: end after this step."""
        self._requests: dict[int, Request] = {}
        self._open: dict[Request, _Open] = {}
        self._told: list[tuple[int, Message]] = []

    def run(self, hear: Hear) -> str:
        """Answer until asked to end. However it ends, the reason is returned."""
        try:
            self._answer(hear)
        except BaseException as fault:  # a thread has nobody above it to tell
            log.exception("the engine's thread failed")
            return f"the engine has failed: {fault or type(fault).__name__}"
        return SHUTTING_DOWN

    def _answer(self, hear: Hear) -> None:
        while self._drain():
            self._tell(hear)
            if not self.engine.scheduler.busy:
                continue
            try:
                moved = self.engine.step()
            except Exception as fault:
                log.exception("the engine failed; %d answers are lost", len(self._open))
                self._abandon(fault)
            else:
                for request in moved:
                    self._report(request)
            self._tell(hear)

    def _drain(self) -> bool:
        """Take every order; wait for one where there is nothing else to do. False: end."""
        wait = not self.engine.scheduler.busy
        while True:
            try:
                order = self.inbox.get(block=wait)
            except queue.Empty:
                return True
            wait = False
            if order is None:
                return False
            number, job = order
            if job is not None:
                self._submit(number, job)
            elif (request := self._requests.get(number)) is not None:
                self.engine.cancel(request)
                self._end(request, "cancelled")

    def _submit(self, number: int, job: Job) -> None:
        try:
            request = self.engine.submit(job.prompt, job.sampling, salt=job.salt)
        except NanochatError as fault:
            self._told.append((number, fault))
        except Exception as fault:
            log.exception("a prompt was not accepted")
            self._told.append((number, EngineFailed(str(fault))))
        else:
            self._requests[number], self._open[request] = request, _Open(number)
            self._told.append((number, "accepted"))

    def _report(self, request: "Request") -> None:
        answer = self._open[request]
        parts, told = request.transcript.take(), request.take_told()
        completion = request.completion() if request.finish_reason is not None else None
        if not (parts or told or completion):
            return
        prompt_told = () if answer.begun else request.prompt_told
        update = Update(parts=parts, told=told, prompt_told=prompt_told, completion=completion)
        answer.begun = True
        if completion is None:
            self._told.append((answer.number, update))
        else:
            self._end(request, update)

    def _end(self, request: "Request", last: Message) -> None:
        number = self._open.pop(request).number
        del self._requests[number]
        self._told.append((number, last))

    def _abandon(self, fault: Exception) -> None:
        for request in list(self._open):
            self.engine.cancel(request)
            self._end(request, EngineFailed(str(fault)))
        self.engine.forget()  # the step may have ended between what is noted of the cache and what was written there

    def _tell(self, hear: Hear) -> None:
        told, self._told = self._told, []
        if told:
            hear(told)
