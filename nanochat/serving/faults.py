"""Errors as OpenAI's clients read them: an HTTP status, and an object that says what is wrong in words.

In: exceptions of the endpoints. Out: responses. None of them shows a traceback.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from nanochat.errors import NanochatError
from nanochat.serving.engine_client import Overloaded, TookTooLong
from nanochat.serving.jobs import EngineFailed

CLIENT_CLOSED_REQUEST = 499
RETRY_AFTER_SECONDS = 2
SHOWN = 80
"""Characters of a request that an error repeats at most."""
_JSON = json.JSONEncoder(ensure_ascii=False)  # one for all: `json.dumps` would make one for each event of a stream


class RequestError(Exception):
    """An answer that is an error: the HTTP status, and what OpenAI's error object says."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.retry = status, message, param, code, retry

    def body(self) -> dict[str, Any]:
        """The error object."""
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        """The whole answer; where trying again helps, after how long."""
        headers = {} if self.retry is None else {"Retry-After": str(max(1, math.ceil(self.retry)))}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return json_response(self.body(), status=self.status, headers=headers)


def encoded(value: Mapping[str, Any]) -> bytes:
    """JSON as it is sent. Half a surrogate pair, which a request may spell and an error repeat, has no bytes: `?`."""
    return _JSON.encode(value).encode("utf-8", "replace")


def json_response(value: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON object as a response."""
    return Response(encoded(value), status, headers, media_type="application/json")


def failure(fault: EngineFailed | TookTooLong) -> RequestError:
    """What the client is told of an answer that was not finished."""
    if isinstance(fault, TookTooLong):
        return RequestError(504, str(fault), code="timeout")
    return RequestError(
        503, f"the answer could not be finished: {fault}", code="engine_failed", retry=RETRY_AFTER_SECONDS
    )


def as_request_error(fault: NanochatError) -> RequestError:
    """What is wrong with a prompt or its settings."""
    first = fault.diagnostics[0]
    params = {"E306": "messages", "E602": first.message.partition(" ")[0]}  # which begins with the setting's name
    said = "; ".join(text for d in fault.diagnostics for text in (d.message, d.help) if text)
    code = "context_length_exceeded" if first.code == "E601" else None
    return RequestError(400, said, param=params.get(first.code), code=code)


def _request_error(_: Request, fault: Exception) -> Response:
    assert isinstance(fault, RequestError)
    return fault.response()


def _nanochat_error(_: Request, fault: Exception) -> Response:
    assert isinstance(fault, NanochatError)
    return as_request_error(fault).response()


def _http_error(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, HTTPException)
    said = f"{fault.detail}: {request.method} {request.scope['path'][:SHOWN]}"
    response = RequestError(fault.status_code, said).response()
    response.headers.update(fault.headers or {})
    return response


def _overloaded(_: Request, __: Exception) -> Response:
    said = "the server is busy; try again in a moment"
    return RequestError(429, said, code="overloaded", retry=RETRY_AFTER_SECONDS).response()


def _unfinished(_: Request, fault: Exception) -> Response:
    assert isinstance(fault, EngineFailed | TookTooLong)
    return failure(fault).response()


def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)  # which nobody hears


def _unexpected(_: Request, __: Exception) -> Response:
    return RequestError(500, "the server made a mistake; its log says more").response()


HANDLERS: Mapping[Any, Any] = {
    RequestError: _request_error,
    NanochatError: _nanochat_error,
    HTTPException: _http_error,
    Overloaded: _overloaded,
    EngineFailed: _unfinished,
    TookTooLong: _unfinished,
    ClientDisconnect: _gone,
    Exception: _unexpected,
}
"""For Starlette."""
