"""The OpenAPI document: what the server offers, made from the tables by which it checks requests.

In: nothing. Out: the document of /openapi.json, OpenAPI 3.1.
"""

from collections.abc import Mapping
from typing import Any

import attrs

from nanochat.inference.sampling import Sampling
from nanochat.serving.fields import CHAT, COMPLETION, LARGEST, SETTINGS, TOKENIZE, Field

ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
REFUSALS = {
    "400": "what was asked makes no sense; the message says what",
    "401": "no valid API key",
    "403": "a page of another host asks, or the server is asked by a name that is not its own",
    "404": "no such model, or run",
    "408": "the request took too long to arrive",
    "413": "the body is too large",
    "429": "too many requests; Retry-After says when to try again",
    "503": "the model is being loaded, or has failed",
    "504": "the answer took too long",
}

NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}


def document() -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "nanochat", "version": "1", "description": "OpenAI's API for one's own models."},
        "security": [{}, {"key": []}],
        "paths": {
            "/v1/chat/completions": {"post": _post("Answer a conversation", _body(CHAT, ["messages"]), stream=True)},
            "/v1/completions": {"post": _post("Continue texts", _body(COMPLETION, ["prompt"]), stream=True)},
            "/v1/tokenize": {"post": _post("The ids of a text", _body(TOKENIZE, []))},
            "/v1/models": {"get": _get("The models there are", refused=["401", "403", "429"])},
            "/v1/models/{name}": {
                "get": _get("One of them", refused=["401", "403", "404", "429", "503"]),
                "parameters": [NAME],
            },
            "/v1/runs": {"get": _get("The runs of this machine", refused=["401", "403", "429"])},
            "/v1/runs/{name}": {
                "get": _get("A run as it is now, with its curves", refused=["401", "403", "404", "429"]),
                "parameters": [NAME],
            },
            "/health": {"get": _get("Whether prompts are answered", refused=["403", "503"])},
            "/ready": {"get": _get("Whether every model is loaded", refused=["403", "503"])},
        },
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}, "schemas": {"Error": ERROR}},
    }


def _body(fields: Mapping[str, Field], required: list[str]) -> dict[str, Any]:
    properties = {name: _property(name, field) for name, field in fields.items()}
    return {"type": "object", "required": required, "properties": properties}


def _property(name: str, field: Field) -> dict[str, Any]:
    """A field's schema; null stands for leaving it out."""
    found: dict[str, Any] = {"description": field.doc, "type": [*field.types, "null"], **field.schema}
    if name in SETTINGS:
        limits = attrs.fields_dict(Sampling)[name].metadata
        for key, word in (("lowest", "exclusiveMinimum" if limits.get("above") else "minimum"), ("highest", "maximum")):
            if key in limits and abs(limits[key]) != float("inf"):
                found.setdefault(word, limits[key])
    if field.types == ("integer",):
        found = {"minimum": -LARGEST - 1, "maximum": LARGEST, **found}
    return found


def _post(summary: str, schema: Mapping[str, Any], *, stream: bool = False) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if stream:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"200": {"description": "done", "content": content}} | _refusals(list(REFUSALS)),
    }


def _get(summary: str, *, refused: list[str]) -> dict[str, Any]:
    ok = {"description": "done", "content": {"application/json": {"schema": {"type": "object"}}}}
    return {"summary": summary, "responses": {"200": ok} | _refusals(refused)}


def _refusals(statuses: list[str]) -> dict[str, Any]:
    shape = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {status: {"description": REFUSALS[status], "content": shape} for status in statuses}
