"""A conversation that is kept within the context by leaving its oldest turns out.

In: what the user says, what was answered. Out: requests to the engine. Not here: the terminal.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nanochat.inference.sampling import Sampling

if TYPE_CHECKING:
    from nanochat.inference.engine import Engine
    from nanochat.inference.request import Request

ANSWER_SHARE = 4
"""A turn is left out where less than one part in so many of the context would be free for the answer."""


class Dialogue:
    """A system message, if there is one, and turns."""

    def __init__(self, engine: "Engine", sampling: Sampling, system: str | None = None) -> None:
        self.engine, self.sampling = engine, sampling
        self.system = [{"role": "system", "content": system}] if system else []
        self.turns: list[Mapping[str, Any]] = []

    def ask(self, text: str) -> "tuple[Request, int]":
        """A request for the answer to `text`, and how many messages were left out for good to make it fit.

        InputError E601 where not even the question alone fits.
        """
        turns = [*self.turns, {"role": "user", "content": text}]
        left_out = 0
        while len(prompt := self._render(turns)) > self._longest_prompt and len(turns) > 1:
            turns = turns[2:]  # a question and its answer
            left_out += 2
        request = self.engine.submit(prompt, self.sampling)
        self.turns = turns
        return request, left_out

    def answered(self, request: "Request") -> None:
        """Note an answer; a question to which nothing was said is forgotten."""
        if request.transcript.parts:
            self.turns.append({"role": "assistant", "content": request.transcript.parts})
        else:
            self.turns.pop()

    def reset(self) -> None:
        """Begin anew; the system message stays."""
        self.turns = []

    @property
    def _longest_prompt(self) -> int:
        context = self.engine.context
        return context - min(context // ANSWER_SHARE, self.sampling.max_tokens or context)

    def _render(self, turns: Sequence[Mapping[str, Any]]) -> list[int]:
        from nanochat.text.conversation import render_prompt  # loads the tokenizer's Rust, which --help does without

        return render_prompt({"messages": [*self.system, *turns]}, self.engine.tokenizer)
