"""What one request has written, as parts that a person can read: text, tool calls, their results.

In: the ids in the order they were sampled. Out: parts, whole and as increments for streaming; a tool call at the moment
its expression is complete. TEXT → EXPRESSION → (the engine forces the result in) → TEXT.
"""

from collections.abc import Sequence

from nanochat.inference.completion import Part
from nanochat.inference.grammar import TEXT, Call, Grammar
from nanochat.inference.stop_text import StopText
from nanochat.text.decoder import TextStream
from nanochat.text.tokenizer import Tokenizer


class Transcript:
    """The parts of an answer in the making. Its text ends before the first of the strings in `stops`."""

    def __init__(
        self, tokenizer: Tokenizer, grammar: Grammar, prompt: Sequence[int], stops: Sequence[str] = ()
    ) -> None:
        self.tokenizer, self.grammar = tokenizer, grammar
        self.stream, self.stop_text = TextStream(tokenizer), StopText(stops)
        self.state = grammar.first_state(prompt)
        self.call: Call | None = None
        self.ended = False
        self.parts: list[Part] = []
        self._fresh: list[Part] = []

    @property
    def text(self) -> str:
        """What is said, without tool calls and their results."""
        return "".join(part["text"] for part in self.parts if part["type"] == "text")

    def take(self) -> list[Part]:
        """What was added since the last call: an increment without text begins a part, others of its type join it."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def push(self, token: int) -> tuple[Call, str] | None:
        """Add a sampled id. Returns the tool call that it completes, if it does, and its expression."""
        if token in self.grammar.ends:
            self.close()
            self.ended = True
        elif self.call is not None and token == self.call.end:
            self._flush()
            ended, self.call, self.state = self.call, None, TEXT
            return ended, self.parts[-1]["text"]
        elif self.call is None and (call := self.grammar.begun_by(token)) is not None:
            self._flush()
            self.call, self.state = call, call.state
            self._begin("python", None if call.name == "python" else call.name)
        else:
            self._say(self.stream.push(token))
        return None

    def encode_result(self, result: str) -> list[int]:
        """The ids that say a tool's result to the model. What it spells is text, never a special token."""
        return [self.grammar.output_start, *self.tokenizer.encode(result), self.grammar.output_end]

    def show_result(self, result: str) -> None:
        """Add a tool's result."""
        self._begin("python_output")
        self._add("python_output", result)

    def close(self) -> None:
        """Nothing more will come: release what waited for the rest of a character."""
        self._flush()

    def _say(self, text: str) -> None:
        if self.call is not None:
            self._add("python", text)
            return
        self._add("text", self.stop_text.push(text))
        self.ended = self.ended or self.stop_text.ended

    def _flush(self) -> None:
        self._say(self.stream.flush())
        if self.call is None:
            self._add("text", self.stop_text.flush())

    def _begin(self, kind: str, tool: str | None = None) -> None:
        for parts in (self.parts, self._fresh):
            part: Part = {"type": kind, "text": ""}
            parts.append(part if tool is None else {**part, "tool": tool})

    def _add(self, kind: str, text: str) -> None:
        if not text:
            return
        if self.parts and self.parts[-1]["type"] == kind:
            self.parts[-1]["text"] += text
        else:
            self.parts.append({"type": kind, "text": text})
        self._fresh.append({"type": kind, "text": text})
