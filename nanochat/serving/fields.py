"""The fields of requests: name, JSON type, meaning. What is checked and what the OpenAPI document says is one table.

In: decoded JSON. Out: values of the right type, or a RequestError that names the field. Limits are `Sampling`'s.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import attrs

from nanochat.inference.sampling import MOST_BIASES, MOST_TOP_LOGPROBS, SEED_BITS, Sampling, written
from nanochat.serving.faults import RequestError

TYPES = {"integer": int, "number": float, "string": str, "boolean": bool, "object": dict, "array": list}
NAMES = {
    "integer": "an integer",
    "number": "a number",
    "string": "a string",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
}


LARGEST = (1 << SEED_BITS - 1) - 1
"""Of integers."""


@attrs.frozen
class Field:
    """One field: the JSON type that it must have (several where it may have one of them), and what it means."""

    types: tuple[str, ...]
    doc: str
    schema: Mapping[str, Any] = attrs.field(factory=dict)
    """What JSON Schema says beside the type."""


SETTINGS = {
    "temperature": Field(("number",), "0: the likeliest token each time"),
    "top_p": Field(("number",), "only the likeliest tokens that together reach this probability"),
    "top_k": Field(("integer",), "only the k likeliest tokens; 0 or -1: all (an extension)", {"minimum": -1}),
    "min_p": Field(("number",), "only tokens at least this share as likely as the likeliest (an extension)"),
    "presence_penalty": Field(("number",), "taken from the logit of every token that was written"),
    "frequency_penalty": Field(("number",), "taken from it for each time that it was written"),
    "repetition_penalty": Field(("number",), "above 1: tokens of prompt and answer become rarer (an extension)"),
    "seed": Field(("integer",), "the same seed gives the same answer"),
    "ignore_eos": Field(("boolean",), "go on to max_tokens (an extension)"),
}
"""Those that `Sampling` has by the same name."""

COMMON = SETTINGS | {
    "model": Field(("string",), "one of /v1/models; left out: the first"),
    "max_tokens": Field(("integer",), "the most tokens to write", {"minimum": 1}),
    "n": Field(("integer",), "how many choices to write", {"minimum": 1, "maximum": 128}),
    "stop": Field(("string", "array"), "the answer ends before the first of these", {"items": {"type": "string"}}),
    "logit_bias": Field(
        ("object",),
        "token id → what is added to its logit",
        {"additionalProperties": {"type": "number"}, "maxProperties": MOST_BIASES},
    ),
    "stream": Field(("boolean",), "server-sent events, ended by [DONE]"),
    "stream_options": Field(
        ("object",), "include_usage: one more chunk that counts", {"properties": {"include_usage": {"type": "boolean"}}}
    ),
    "user": Field(("string",), "only requests of one user share what is cached"),
    "prompt_cache_key": Field(("string",), "the same, by OpenAI's newer name"),
}
CHAT = COMMON | {
    "messages": Field(("array",), "the conversation; the last message is the user's", {"minItems": 1}),
    "max_completion_tokens": Field(("integer",), "max_tokens by its newer name", {"minimum": 1}),
    "logprobs": Field(("boolean",), "tell each token's log-probability"),
    "top_logprobs": Field(("integer",), "and so many likeliest others'", {"minimum": 0, "maximum": MOST_TOP_LOGPROBS}),
}
COMPLETION = COMMON | {
    "prompt": Field(("string", "array"), "text or token ids, or a list of either"),
    "echo": Field(("boolean",), "begin with the prompt; with logprobs its log-probabilities too"),
    "logprobs": Field(
        ("integer",),
        "tell log-probabilities, of so many likeliest tokens too",
        {"minimum": 0, "maximum": MOST_TOP_LOGPROBS},
    ),
    "max_tokens": Field(("integer",), "the most tokens to write; 0: none, where `echo` is true", {"minimum": 0}),
}
TOKENIZE = {
    "model": COMMON["model"],
    "prompt": Field(("string",), "a text"),
    "messages": Field(("array",), "or a conversation, as a chat completion would see it"),
    "user": COMMON["user"],
    "prompt_cache_key": COMMON["prompt_cache_key"],
}

WITHOUT_EFFECT: Mapping[str, tuple[Any, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "best_of": (1,),
    "audio": (),
    "prediction": (),
}
"""Fields whose other values would change the answer and are not understood: refused rather than ignored."""


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


def checked(body: Mapping[str, Any], fields: Mapping[str, Field]) -> dict[str, Any]:
    """The known fields that are there and not null, each of its type and within its limits; unknown ones are left out.
    RequestError 400.
    """
    for name, harmless in WITHOUT_EFFECT.items():
        if body.get(name) is not None and body[name] not in harmless:
            raise RequestError(400, f"`{name}` is not supported by this server", param=name)
    given = {name: typed(body[name], name, field.types) for name, field in fields.items() if body.get(name) is not None}
    for name, value in given.items():
        _within(value, name, fields[name])
    return given


def typed(value: Any, name: str, types: tuple[str, ...]) -> Any:
    """A value of one of the types; an integer is a number as well."""
    if types == ("number",) and type(value) is int:
        return float(value) if abs(value) < 2**63 else math.inf
    if type(value) not in [TYPES[each] for each in types]:
        raise RequestError(400, f"`{name}` must be {' or '.join(NAMES[each] for each in types)}", param=name)
    return value


def _within(value: Any, name: str, field: Field) -> None:
    if field.types != ("integer",):
        return
    lowest, highest = field.schema.get("minimum", -LARGEST - 1), field.schema.get("maximum", LARGEST)
    if not lowest <= value <= highest:
        limits = f"at least {lowest}, at most {highest}"
        raise RequestError(400, f"`{name}` is {written(value)}; it must be {limits}", param=name)


def sampling_of(given: Mapping[str, Any], **more: Any) -> Sampling:
    """The settings that a request's fields ask for. InputError E602 for what is out of range."""
    settings = {name: given[name] for name in SETTINGS if name in given}
    if settings.get("top_k") == -1:  # as vLLM's clients spell it
        settings["top_k"] = 0
    if "stop" in given:
        stop = [given["stop"]] if isinstance(given["stop"], str) else given["stop"]
        settings["stop"] = tuple(typed(each, "stop", ("string",)) for each in stop)
    if len(given.get("logit_bias", ())) > MOST_BIASES:  # before each of them is looked at
        said = f"`logit_bias` names {len(given['logit_bias'])} tokens; it may name at most {MOST_BIASES}"
        raise RequestError(400, said, param="logit_bias")
    if "logit_bias" in given:
        settings["logit_bias"] = {
            _id(key): typed(value, "logit_bias", ("number",)) for key, value in given["logit_bias"].items()
        }
    return Sampling(**settings | {name: value for name, value in more.items() if value is not None})


def include_usage(given: Mapping[str, Any]) -> bool:
    """Whether a stream ends with a chunk that counts."""
    option = given.get("stream_options", {}).get("include_usage")
    return option is not None and bool(typed(option, "stream_options.include_usage", ("boolean",)))


def _id(key: str) -> int:
    if not (key.isascii() and key.isdigit() and len(key) < 10):
        raise RequestError(400, "`logit_bias` must name tokens by their ids", param="logit_bias")
    return int(key)
