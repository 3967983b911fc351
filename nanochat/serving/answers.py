"""Answers in OpenAI's shapes: chat completions and text completions, whole and in chunks.

In: completions and updates of an engine. Out: dictionaries ready to be encoded. One extension: `parts` in an
answer that called tools ({"type": "text" | "python" | "python_output", "text"}), and in a stream in each increment of a
model that has tools, numbered by `index`, by which OpenAI's own client joins them.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from nanochat.inference.completion import Completion, Part, Told
from nanochat.serving.jobs import Update
from nanochat.text.tokenizer import Tokenizer

Json = dict[str, Any]


class Form(Protocol):
    """The shape of one response, whole or streamed."""

    def whole(self, completions: Sequence[Completion]) -> Json: ...
    def first(self) -> Sequence[Json]: ...
    def chunks(self, choice: int, update: Update) -> Sequence[Json]: ...
    def usage_chunk(self, completions: Sequence[Completion]) -> Json: ...


def _head(kind: str, model: str) -> Json:
    return {"id": f"{kind}-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}


def usage(completions: Sequence[Completion], prompts: int) -> Json:
    """Token counts; of the choices of one prompt it counts once. What tools answered counts as written."""
    share = len(completions) // prompts
    asked = sum(completion.prompt_tokens for completion in completions[::share])
    cached = sum(completion.cached_tokens for completion in completions[::share])
    written = sum(len(completion.ids) for completion in completions)
    return {
        "prompt_tokens": asked,
        "completion_tokens": written,
        "total_tokens": asked + written,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _spelled(token: int, tokenizer: Tokenizer) -> str:
    return tokenizer.decode([token])


class ChatForm:
    """A chat completion."""

    def __init__(self, model: str, tokenizer: Tokenizer, choices: int, *, logprobs: bool, tools: bool) -> None:
        self.tokenizer, self.choices, self.logprobs, self.tools = tokenizer, choices, logprobs, tools
        self.last: list[Json] = [{"index": -1, "type": ""} for _ in range(choices)]
        """The last part of each choice's, as it was sent."""
        self.head = _head("chatcmpl", model)

    def whole(self, completions: Sequence[Completion]) -> Json:
        choices = []
        for index, completion in enumerate(completions):
            message: Json = {"role": "assistant", "content": completion.text, "refusal": None}
            if any(part["type"] != "text" for part in completion.parts):
                message["parts"] = list(completion.parts)
            choice = {"index": index, "message": message, "finish_reason": completion.finish_reason}
            choices.append(choice | {"logprobs": self._told(completion.told)})
        return self.head | {"object": "chat.completion", "choices": choices, "usage": usage(completions, 1)}

    def first(self) -> Sequence[Json]:
        return [self._chunk(choice, {"role": "assistant", "content": ""}) for choice in range(self.choices)]

    def chunks(self, choice: int, update: Update) -> Sequence[Json]:
        made = []
        if update.parts or update.told:
            text = "".join(part["text"] for part in update.parts if part["type"] == "text")
            delta: Json = {"content": text}
            if self.tools:
                delta["parts"] = [self._numbered(choice, part) for part in update.parts]
            made.append(self._chunk(choice, delta, told=update.told))
        if update.completion is not None:
            made.append(self._chunk(choice, {}, update.completion.finish_reason))
        return made

    def usage_chunk(self, completions: Sequence[Completion]) -> Json:
        return self.head | {"object": "chat.completion.chunk", "choices": [], "usage": usage(completions, 1)}

    def _chunk(self, index: int, delta: Json, finish_reason: str | None = None, told: Sequence[Told] = ()) -> Json:
        logprobs = self._told(told) if told else None
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return self.head | {"object": "chat.completion.chunk", "choices": [choice]}

    def _numbered(self, choice: int, part: Part) -> Json:
        """An increment with its part's place: one without text begins a part, others of its type join it."""
        last = self.last[choice]
        begins = not part["text"] or part["type"] != last["type"]
        self.last[choice] = {"index": last["index"] + begins, **part}
        return self.last[choice]

    def _told(self, told: Sequence[Told]) -> Json | None:
        if not self.logprobs:
            return None
        content = [
            self._token(each.id, each.logprob)
            | {"top_logprobs": [self._token(token, logprob) for token, logprob in each.top]}
            for each in told
        ]
        return {"content": content, "refusal": None}

    def _token(self, token: int, logprob: float | None) -> Json:
        spelled = self.tokenizer.decode_bytes([token])
        return {"token": _spelled(token, self.tokenizer), "logprob": logprob, "bytes": list(spelled)}


class TextForm:
    """A text completion. echo: for each choice the prompt's text, if it is to come first."""

    def __init__(
        self,
        model: str,
        tokenizer: Tokenizer,
        echo: Sequence[str],
        prompts: int,
        *,
        logprobs: bool,
        added: Sequence[int],
    ) -> None:
        self.tokenizer, self.echo, self.prompts, self.logprobs = tokenizer, echo, prompts, logprobs
        self.added = added
        """For each choice, how many ids the server put before the prompt: they are not told of."""
        self.head = _head("cmpl", model) | {"object": "text_completion"}
        self.offsets = [0] * len(echo)
        self.begun = set[int]()

    def whole(self, completions: Sequence[Completion]) -> Json:
        choices = []
        for index, completion in enumerate(completions):
            told = [*completion.prompt_told[self.added[index] :], *completion.told]
            choice = self._choice(index, self.echo[index] + completion.text, told, completion.finish_reason)
            choices.append(choice)
        return self.head | {"choices": choices, "usage": usage(completions, self.prompts)}

    def first(self) -> Sequence[Json]:
        return []

    def chunks(self, choice: int, update: Update) -> Sequence[Json]:
        text = "".join(part["text"] for part in update.parts)
        told = list(update.told)
        if self.echo[choice] and choice not in self.begun:
            text = self.echo[choice] + text
            told = [*update.prompt_told[self.added[choice] :], *told]
            self.begun.add(choice)
        reason = update.completion.finish_reason if update.completion is not None else None
        if not (text or told or reason):
            return []
        return [self.head | {"choices": [self._choice(choice, text, told, reason)]}]

    def usage_chunk(self, completions: Sequence[Completion]) -> Json:
        return self.head | {"choices": [], "usage": usage(completions, self.prompts)}

    def _choice(self, index: int, text: str, told: Sequence[Told], finish_reason: str | None) -> Json:
        logprobs = self._told(told, self.offsets[index]) if self.logprobs else None
        self.offsets[index] += len(text)
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}

    def _told(self, told: Sequence[Told], offset: int) -> Json:
        tokens = [_spelled(each.id, self.tokenizer) for each in told]
        offsets = []
        for token in tokens:
            offsets.append(offset)
            offset += len(token)
        return {
            "tokens": tokens,
            "token_logprobs": [each.logprob for each in told],
            "top_logprobs": [self._top(each) for each in told],
            "text_offset": offsets,
        }

    def _top(self, told: Told) -> Mapping[str, float] | None:
        """The likeliest first; several ids may be spelled alike, of which the likeliest counts."""
        if told.logprob is None:
            return None
        found: dict[str, float] = {}
        for token, logprob in [*told.top, (told.id, told.logprob)]:
            found.setdefault(_spelled(token, self.tokenizer), logprob)
        return found
