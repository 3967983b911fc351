"""The server's application: OpenAI's chat completions, the models, health, and the chat page.

In: an engine and the model's name. Out: a Starlette application that owns the engine's thread while it runs. Every
error has OpenAI's shape. Not here: sockets and signals (`nanochat.serving.server`).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from nanochat.errors import NanochatError
from nanochat.inference.engine import Engine
from nanochat.serving.engine_thread import Answer, EngineFailed, EngineThread, Overloaded
from nanochat.serving.openai_format import (
    ChatAnswer,
    ChatRequest,
    RequestError,
    encoded,
    model_list,
    parse_chat,
    parse_json,
)
from nanochat.text.conversation import render_prompt

STATIC = Path(__file__).parent / "static"
MAX_BODY_BYTES = 4 * 2**20
CAPACITY = 256
"""Answers that are being written or wait; one more is turned away."""
RETRY_AFTER_SECONDS = 2
SHOWN = 80
"""Characters of a request that an error repeats at most."""
CLIENT_CLOSED_REQUEST = 499
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def create_app(engine: Engine, *, model: str, capacity: int = CAPACITY) -> Starlette:
    """The application for one model. The engine belongs to it from its startup on."""
    thread = EngineThread(engine, capacity=capacity)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        thread.start()
        yield
        await asyncio.to_thread(thread.stop)

    service = Service(thread, model)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", service.chat, methods=["POST"]),
            Route("/v1/models", service.models),
            Route("/health", service.health),
            Route("/", page),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        exception_handlers={
            RequestError: _request_error,
            NanochatError: _nanochat_error,
            HTTPException: _http_error,
            Overloaded: _overloaded,
            EngineFailed: _engine_failed,
            Exception: _unexpected,
        },
        lifespan=lifespan,
    )


class Service:
    """The endpoints of one model."""

    def __init__(self, thread: EngineThread, model: str) -> None:
        self.thread, self.model = thread, model
        self.created = int(time.time())

    async def health(self, _: Request) -> Response:
        """Whether prompts are answered, why no longer, and how many are."""
        ended = self.thread.ended
        state = {"status": "ok"} if ended is None else {"status": "stopped", "reason": ended}
        return _json(state | {"model": self.model, "open": self.thread.open}, status=200 if ended is None else 503)

    async def models(self, _: Request) -> Response:
        """The one model there is."""
        return _json(model_list(self.model, self.created))

    async def chat(self, request: Request) -> Response:
        """A chat completion, whole or streamed."""
        asked = parse_chat(parse_json(await _body(request)))
        if asked.model is not None and asked.model != self.model:
            raise RequestError(
                404, f"there is no model `{asked.model[:SHOWN]}`; this server has `{self.model}`", param="model",
                code="model_not_found",
            )  # fmt: skip
        # Off the event loop: a long conversation takes its time to tokenise.
        prompt = await asyncio.to_thread(render_prompt, {"messages": asked.messages}, self.thread.engine.tokenizer)
        answer = self.thread.answer(prompt, asked.sampling)
        if not asked.stream:
            return await self._whole(request, answer)
        events = self._events(asked, answer)
        # The first event is waited for, so that a prompt that does not fit is an error and not the start of a stream.
        first = await anext(events)
        return StreamingResponse(_after(first, events), media_type="text/event-stream", headers=STREAM_HEADERS)

    async def _whole(self, request: Request, answer: Answer) -> Response:
        """The answer in one piece; a client that goes away before ends it."""
        async with answer:
            writing = asyncio.create_task(answer.completion())
            leaving = asyncio.create_task(_disconnected(request))
            await asyncio.wait((writing, leaving), return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
            if not writing.done():
                writing.cancel()
                return Response(status_code=CLIENT_CLOSED_REQUEST)  # which nobody hears
            return _json(ChatAnswer(self.model).whole(await writing))

    async def _events(self, asked: ChatRequest, answer: Answer) -> AsyncIterator[bytes]:
        """Server-sent events; closing this iterator, as a disconnect does, ends the answer."""
        form = ChatAnswer(self.model)
        async with answer:
            yield _event(form.first())
            try:
                async for update in answer:
                    if update.parts:
                        yield _event(form.increment(update.parts))
                    if update.completion is not None:
                        yield _event(form.last(update.completion))
                        if asked.include_usage:
                            yield _event(form.usage_chunk(update.completion))
            except EngineFailed as fault:
                yield _event(_failure(fault).body())
            yield b"data: [DONE]\n\n"


STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def page(_: Request) -> Response:
    """The chat page."""
    return FileResponse(STATIC / "index.html", headers=PAGE_HEADERS)


async def _after(first: bytes, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        yield first
        async for event in events:
            yield event
    finally:
        await events.aclose()  # type: ignore[attr-defined]


async def _body(request: Request) -> bytes:
    """The body, refused as soon as it is too long."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise RequestError(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
    return bytes(body)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + encoded(value) + b"\n\n"


def _json(value: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encoded(value), status, headers, media_type="application/json")


# Errors, all in OpenAI's shape


def _error(fault: RequestError, headers: dict[str, str] | None = None) -> Response:
    return _json(fault.body(), status=fault.status, headers=headers)


def _failure(fault: EngineFailed) -> RequestError:
    return RequestError(503, f"the answer could not be finished: {fault}")


def _request_error(_: Request, fault: Exception) -> Response:
    assert isinstance(fault, RequestError)
    return _error(fault)


def _nanochat_error(_: Request, fault: Exception) -> Response:
    assert isinstance(fault, NanochatError)
    code = "context_length_exceeded" if any(d.code == "E601" for d in fault.diagnostics) else None
    return _error(RequestError(400, "; ".join(d.message for d in fault.diagnostics), code=code))


def _http_error(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, HTTPException)
    return _error(RequestError(fault.status_code, f"{fault.detail}: {request.method} {request.scope['path'][:SHOWN]}"))


def _overloaded(_: Request, __: Exception) -> Response:
    busy = RequestError(503, "the server is busy; try again in a moment", code="overloaded")
    return _error(busy, {"Retry-After": str(RETRY_AFTER_SECONDS)})


def _engine_failed(_: Request, fault: Exception) -> Response:
    assert isinstance(fault, EngineFailed)
    return _error(_failure(fault))


def _unexpected(_: Request, __: Exception) -> Response:
    return _error(RequestError(500, "the server made a mistake; its log says more"))
