"""OpenAI's wire format: a request's JSON checked and understood, answers and errors in its shapes.

In: decoded JSON, completions. Out: a `ChatRequest`, dictionaries ready to be encoded. Two extensions: `top_k` in a
request, and `parts` in an answer that called tools ({"type": "text" | "python" | "python_output", "text"}), which an
assistant's message in a request may hold as its content too. Not here: HTTP.
"""

import json
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from nanochat.inference.request import Completion
from nanochat.inference.sampling import Sampling
from nanochat.inference.transcript import Part

WITHOUT_EFFECT: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "stop": ([],),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "functions": ([],),
    "response_format": ({"type": "text"},),
}
"""Fields whose other values would change the answer and are not understood: refused rather than ignored."""


def encoded(value: Mapping[str, Any]) -> bytes:
    """JSON as it is sent. Half a surrogate pair, which a request may spell and an error repeat, has no bytes: `?`."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


class RequestError(Exception):
    """An answer that is an error: the HTTP status, and what OpenAI's error object says."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def body(self) -> dict[str, Any]:
        """The error object."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


@attrs.frozen(kw_only=True)
class ChatRequest:
    """A request for a chat completion, checked."""

    model: str | None
    messages: Sequence[Any]
    """As they came but for OpenAI's ways of speaking; rendering checks them."""
    sampling: Sampling
    stream: bool
    include_usage: bool


def parse_json(body: bytes) -> Mapping[str, Any]:
    """A body's JSON object. RequestError 400 for anything else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as fault:
        reason = "it is nested too deeply" if isinstance(fault, RecursionError) else str(fault)
        raise RequestError(400, f"the body is no JSON: {reason}") from fault
    if not isinstance(value, dict):
        raise RequestError(400, "the body must be a JSON object")
    return value


def parse_chat(body: Mapping[str, Any]) -> ChatRequest:
    """Check and understand a request for a chat completion; fields that are unknown are ignored.

    RequestError 400; InputError E602 for sampling settings out of range. The messages' contents are checked when they
    are rendered.
    """
    for name, harmless in WITHOUT_EFFECT.items():
        if body.get(name) is not None and body[name] not in harmless:
            raise RequestError(400, f"`{name}` is not supported by this server", param=name)
    longest = _value(body, "max_completion_tokens", int)
    given = {
        "temperature": _value(body, "temperature", float),
        "top_p": _value(body, "top_p", float),
        "top_k": _value(body, "top_k", int),
        "max_tokens": _value(body, "max_tokens", int) if longest is None else longest,
        "seed": _value(body, "seed", int),
    }
    options = _value(body, "stream_options", dict) or {}
    return ChatRequest(
        model=_value(body, "model", str),
        messages=_messages(body.get("messages")),
        sampling=Sampling(**{name: value for name, value in given.items() if value is not None}),
        stream=bool(_value(body, "stream", bool)),
        include_usage=bool(_value(options, "include_usage", bool)),
    )


def _value(body: Mapping[str, Any], name: str, kind: type) -> Any:
    """A field of that type, or None where it is absent or null."""
    value = body.get(name)
    if kind is float and type(value) is int:
        return float(value) if abs(value) < 2**63 else math.inf
    if value is not None and type(value) is not kind:
        names = {int: "an integer", float: "a number", str: "a string", bool: "true or false", dict: "an object"}
        raise RequestError(400, f"`{name}` must be {names[kind]}", param=name)
    return value


def _messages(given: Any) -> list[Any]:
    """What OpenAI's clients send as nanochat's own messages, which `text/conversation.py` checks further."""
    if not isinstance(given, list) or not given:
        raise RequestError(400, "`messages` must be a list of at least one message", param="messages")
    messages = [_message(message) if isinstance(message, dict) else message for message in given]
    if not isinstance(messages[-1], dict) or messages[-1].get("role") != "user":
        raise RequestError(400, "the last message must be the user's", param="messages")
    return messages


def _message(given: Mapping[str, Any]) -> dict[str, Any]:
    role, content = given.get("role"), given.get("content")
    return {
        "role": "system" if role == "developer" else role,
        "content": "" if content is None and role == "assistant" else content,
    }


class ChatAnswer:
    """One chat completion on its way out: its id, and its JSON whole or in chunks."""

    def __init__(self, model: str) -> None:
        self.head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}

    def whole(self, completion: Completion) -> dict[str, Any]:
        """The answer to a request that does not stream."""
        message: dict[str, Any] = {"role": "assistant", "content": completion.text, "refusal": None}
        message |= _tool_parts(completion.parts)
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": completion.finish_reason}
        return self.head | {"object": "chat.completion", "choices": [choice], "usage": usage(completion)}

    def first(self) -> dict[str, Any]:
        """The chunk that begins a stream."""
        return self._chunk({"role": "assistant", "content": ""})

    def increment(self, parts: Sequence[Part]) -> dict[str, Any]:
        """A chunk of a stream."""
        return self._chunk({"content": "".join(p["text"] for p in parts if p["type"] == "text")} | _tool_parts(parts))

    def last(self, completion: Completion) -> dict[str, Any]:
        """The chunk that says why the answer ended."""
        return self._chunk({}, completion.finish_reason)

    def usage_chunk(self, completion: Completion) -> dict[str, Any]:
        """The chunk after the last, for those who ask for it."""
        return self.head | {"object": "chat.completion.chunk", "choices": [], "usage": usage(completion)}

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self.head | {"object": "chat.completion.chunk", "choices": [choice]}


def _tool_parts(parts: Sequence[Part]) -> dict[str, Any]:
    """The `parts` extension, where there is more than text."""
    return {"parts": list(parts)} if any(part["type"] != "text" for part in parts) else {}


def usage(completion: Completion) -> dict[str, Any]:
    """Token counts; what tools answered counts as written."""
    written = len(completion.ids)
    return {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": written,
        "total_tokens": completion.prompt_tokens + written,
    }


def model_list(model: str, created: int) -> dict[str, Any]:
    """The answer of /v1/models."""
    return {
        "object": "list",
        "data": [{"id": model, "object": "model", "created": created, "owned_by": "nanochat"}],
    }
