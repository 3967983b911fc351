"""The endpoints: chat completions, text completions, models, tokens, health.

In: Starlette's requests. Out: responses, whole or as server-sent events. Whoever goes away ends the answer, whether it
waits, reads its prompt or is being written.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import attrs
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from nanochat.inference.completion import Completion
from nanochat.inference.turns import Turns
from nanochat.serving.answers import ChatForm, Form, TextForm
from nanochat.serving.conversation_request import messages_of
from nanochat.serving.engine_client import Answer, TookTooLong
from nanochat.serving.faults import RequestError, encoded, failure, json_response
from nanochat.serving.fields import (
    CHAT,
    COMPLETION,
    TOKENIZE,
    checked,
    include_usage,
    parse_json,
    sampling_of,
)
from nanochat.serving.jobs import EngineFailed, Job
from nanochat.serving.metrics import Metrics, Pace
from nanochat.serving.models import Models, Served
from nanochat.serving.openapi import document
from nanochat.serving.text_request import texts_of
from nanochat.text.conversation import render_prompt

STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@attrs.frozen(kw_only=True)
class Limits:
    """What one request may take."""

    body_bytes: int = 4 * 2**20
    body_seconds: float = 30.0
    """For the body to arrive."""
    answer_seconds: float = 600.0
    """For the whole answer, the wait in line included."""


@attrs.frozen(kw_only=True)
class Asked:
    """A request that was understood: jobs for an engine, and the shape of what is sent back."""

    served: Served
    jobs: Sequence[Job]
    form: Form
    stream: bool
    include_usage: bool
    remember: bool
    """Whether what is answered is a turn of a conversation."""

    @classmethod
    def of(
        cls, given: Mapping[str, Any], served: Served, jobs: Sequence[Job], form: Form, *, remember: bool = False
    ) -> "Asked":
        """With what the body says of how it is to be sent back."""
        stream, usage = given.get("stream", False), include_usage(given)
        return cls(served=served, jobs=jobs, form=form, stream=stream, include_usage=usage, remember=remember)


class Service:
    """The endpoints of all models."""

    def __init__(self, models: Models, metrics: Metrics, limits: Limits) -> None:
        self.models, self.metrics, self.limits = models, metrics, limits
        self.turns = Turns()

    # What there is

    async def health(self, _: Request) -> Response:
        """Whether prompts are answered, why no longer, and how many are."""
        ended = next((engine.ended for engine in self.models.engines if engine.ended is not None), None)
        state = {"status": "ok"} if ended is None else {"status": "stopped", "reason": ended}
        names = [served.name for served in self.models.served]
        counts = {"models": names, "open": sum(engine.open for engine in self.models.engines)}
        return json_response(state | counts, status=200 if ended is None else 503)

    async def ready(self, request: Request) -> Response:
        """503 until every model is loaded."""
        if not self.models.ready:
            return RequestError(503, "the model is being loaded", code="loading", retry=2).response()
        return await self.health(request)

    async def metrics_text(self, _: Request) -> Response:
        """Prometheus' format."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def openapi(self, _: Request) -> Response:
        """What this module offers, for programs."""
        return json_response(document())

    async def list_models(self, _: Request) -> Response:
        """Every model's name and context."""
        return json_response({"object": "list", "data": [_about(served) for served in self.models.served]})

    async def model(self, request: Request) -> Response:
        """One model's."""
        return json_response(_about(self.models.find(request.path_params["name"])))

    async def tokenize(self, request: Request) -> Response:
        """The ids of a text, or of a conversation as a chat completion would see it."""
        given = checked(parse_json(await self._body(request)), TOKENIZE)
        served = self.models.find(given.get("model"))
        if ("prompt" in given) == ("messages" in given):
            raise RequestError(400, "give either `prompt` or `messages`", param="prompt")
        ids = await asyncio.to_thread(self._tokens, given, served, _salt(request, given, served))
        return json_response({"tokens": ids, "count": len(ids), "max_model_len": served.about.context})

    def _tokens(self, given: Mapping[str, Any], served: Served, salt: str) -> list[int]:
        tokenizer = served.about.tokenizer
        if "messages" not in given:
            return texts_of(given["prompt"], tokenizer)[0].ids
        conversation = {"messages": messages_of(given["messages"])}
        return render_prompt(conversation, tokenizer, lambda *turn: self.turns.recall(salt, *turn))

    # Answers

    async def chat(self, request: Request) -> Response:
        """A chat completion."""
        given = checked(parse_json(await self._body(request)), CHAT)
        served = self.models.find(given.get("model"))
        salt = _salt(request, given, served)
        n, told = given.get("n", 1), given.get("top_logprobs", 0) if given.get("logprobs") else None
        if told is None and given.get("top_logprobs"):
            raise RequestError(400, "`top_logprobs` asks for `logprobs` to be true", param="top_logprobs")
        limit = given.get("max_completion_tokens", given.get("max_tokens"))
        sampling = sampling_of(given, max_tokens=limit, logprobs=told)
        messages_of(given.get("messages"))
        # Off the event loop: a long conversation takes its time to tokenise.
        prompt = await asyncio.to_thread(self._tokens, given, served, salt)
        jobs = [Job(prompt=prompt, sampling=sampling.another(index), salt=salt) for index in range(n)]
        tools = served.about.tools
        form = ChatForm(served.name, served.about.tokenizer, n, logprobs=told is not None, tools=tools)
        return await self._answer(request, Asked.of(given, served, jobs, form, remember=True))

    async def complete(self, request: Request) -> Response:
        """Text completions, of one prompt or several."""
        given = checked(parse_json(await self._body(request)), COMPLETION)
        served = self.models.find(given.get("model"))
        n, told, echo = given.get("n", 1), given.get("logprobs"), given.get("echo", False)
        limit = given.get("max_tokens", 16)
        about_prompt = echo and (told is not None or limit == 0)
        sampling = sampling_of(given, max_tokens=limit, logprobs=told, prompt_logprobs=about_prompt)
        if "prompt" not in given:
            raise RequestError(400, "`prompt` is missing", param="prompt")
        texts = await asyncio.to_thread(texts_of, given["prompt"], served.about.tokenizer)
        salt = _salt(request, given, served)
        jobs = [
            Job(prompt=text.ids, sampling=sampling.another(index), salt=salt) for text in texts for index in range(n)
        ]
        echoed = [text.text if echo else "" for text in texts for _ in range(n)]
        added = [text.added for text in texts for _ in range(n)]
        form = TextForm(served.name, served.about.tokenizer, echoed, len(texts), logprobs=told is not None, added=added)
        return await self._answer(request, Asked.of(given, served, jobs, form))

    async def _answer(self, request: Request, asked: Asked) -> Response:
        engine = asked.served.least_loaded()
        if len(asked.jobs) > engine.capacity:
            said = f"{len(asked.jobs)} answers are asked for at once; this server has room for {engine.capacity}"
            raise RequestError(400, said, param="n")
        answer = engine.answer(asked.jobs, self.limits.answer_seconds)
        if not asked.stream:
            return await self._whole(request, asked, answer)
        events = self._events(asked, answer)
        # The first event is waited for, so that a prompt that does not fit is an error and not the start of a stream.
        first = await anext(events)
        return StreamingResponse(_after(first, events), media_type="text/event-stream", headers=STREAM_HEADERS)

    async def _whole(self, request: Request, asked: Asked, answer: Answer) -> Response:
        """The answer in one piece; a client that goes away before ends it."""
        pace = Pace(self.metrics)
        async with answer:  # at once, not in a task that begins later: the next request is to see that it is open
            leaving = asyncio.create_task(_disconnected(request))
            writing = asyncio.create_task(self._completions(answer, pace))
            try:
                await asyncio.wait((writing, leaving), return_when=asyncio.FIRST_COMPLETED)
                if not writing.done():
                    raise ClientDisconnect
                completions = await writing
            finally:
                leaving.cancel()
                writing.cancel()
        self._note(asked, completions)
        # Off the event loop: a hundred answers with their log-probabilities take a second to be written down.
        return await asyncio.to_thread(lambda: json_response(asked.form.whole(completions)))

    async def _completions(self, answer: Answer, pace: Pace) -> list[Completion]:
        found: dict[int, Completion] = {}
        async for choice, update in answer:
            pace.piece()
            if update.completion is not None:
                found[choice] = update.completion
        return [found[choice] for choice in sorted(found)]

    async def _events(self, asked: Asked, answer: Answer) -> AsyncIterator[bytes]:
        """Server-sent events; closing this iterator, as a disconnect does, ends the answer."""
        found: dict[int, Completion] = {}
        pace = Pace(self.metrics)
        async with answer:
            yield b"".join(_event(value) for value in asked.form.first()) or b": accepted\n\n"
            try:
                async for choice, update in answer:
                    pace.piece()
                    if update.completion is not None:
                        found[choice] = update.completion
                    if pieces := asked.form.chunks(choice, update):
                        yield b"".join(_event(value) for value in pieces)
            except (EngineFailed, TookTooLong) as fault:
                yield _event(failure(fault).body())
            else:
                completions = [found[choice] for choice in sorted(found)]
                self._note(asked, completions)
                if asked.include_usage:
                    yield _event(asked.form.usage_chunk(completions))
            yield b"data: [DONE]\n\n"

    def _note(self, asked: Asked, completions: Sequence[Completion]) -> None:
        self.metrics.count(completions)
        if asked.remember:
            for job, completion in zip(asked.jobs, completions, strict=True):
                self.turns.note(job.salt, job.prompt, completion, asked.served.about.ends)

    async def _body(self, request: Request) -> bytes:
        """The body, refused as soon as it is too long or takes too long to come."""
        body = bytearray()
        too_large = RequestError(413, f"the body is larger than {self.limits.body_bytes} bytes", code="too_large")
        if int(request.headers.get("content-length", 0)) > self.limits.body_bytes:
            raise too_large
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                async for piece in request.stream():
                    body += piece
                    if len(body) > self.limits.body_bytes:
                        raise too_large
        except TimeoutError:
            raise RequestError(408, "the body took too long to arrive", code="timeout") from None
        return bytes(body)


def _about(served: Served) -> dict[str, Any]:
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "nanochat",
        "max_model_len": served.about.context,
    }


def _salt(request: Request, given: Mapping[str, Any], served: Served) -> str:
    """Who may share what is cached, and of which model: the key's owner, and of them one user or session."""
    return "\0".join((request.state.salt, served.name, given.get("prompt_cache_key", given.get("user", ""))))


async def _after(first: bytes, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        yield first
        async for event in events:
            yield event
    finally:
        await events.aclose()  # type: ignore[attr-defined]


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + encoded(value) + b"\n\n"
