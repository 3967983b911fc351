"""A conversation that is kept within the context by leaving its oldest turns out.

In: what the user says, what was answered. Out: requests to the engine. Not here: the terminal.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nanochat.errors import wrong_input
from nanochat.inference.sampling import Sampling
from nanochat.inference.turns import Turns

if TYPE_CHECKING:
    from nanochat.inference.engine import Engine
    from nanochat.inference.request import Request

KEPT_ANSWERS = 256
"""Whose exact ids are remembered, so that the next turn finds them in the cache."""
ANSWER_SHARE = 4
"""A turn is left out where less than one part in so many of the context would be free for the answer."""


class Dialogue:
    """A system message, if there is one, and turns."""

    def __init__(self, engine: "Engine", sampling: Sampling, system: str | None = None) -> None:
        self.engine, self.sampling = engine, sampling
        self.system: list[Mapping[str, Any]] = []
        self.set_system(system)
        self.turns: list[Mapping[str, Any]] = []
        self.known = Turns(KEPT_ANSWERS)

    def set_system(self, text: str | None) -> None:
        """What the model is told beforehand, from the next question on."""
        self.system = [{"role": "system", "content": text}] if text else []

    @property
    def messages(self) -> list[Mapping[str, Any]]:
        """The whole conversation, as `nanochat.text.conversation` has it."""
        return [*self.system, *self.turns]

    def take_up(self, conversation: Mapping[str, Any]) -> str | None:
        """Go on with another conversation, up to its last answer. A question after that, which is left out.

        InputError E306 where it is none, or the model has no tokens for it: the one that there is then goes on.
        """
        from nanochat.text.conversation import content_text, render_conversation

        render_conversation(conversation, self.engine.tokenizer)
        system, *turns = conversation["messages"]
        if system["role"] == "system":
            self.system = [system]
        else:
            turns, self.system = [system, *turns], []
        self.turns = turns[: len(turns) // 2 * 2]
        return content_text(turns[-1]["content"]) if len(turns) % 2 else None

    def forget_last(self) -> str:
        """Forget the last question and its answer; the question. InputError E407 where there is none."""
        if not self.turns:
            raise wrong_input("E407", "nothing was asked yet")
        from nanochat.text.conversation import content_text

        question, _ = self.turns[-2:]
        self.turns = self.turns[:-2]
        return content_text(question["content"])

    def ask(self, text: str, consent: Callable[[int], bool] = lambda _: True) -> "tuple[Request, int]":
        """A request for the answer to `text`, and how many messages were left out for good to make it fit.

        consent: asked before they are. InputError E601 where it is refused, or not even the question alone fits.
        `answered` must follow, whatever became of the request.
        """
        turns = [*self.turns, {"role": "user", "content": text}]
        left_out = 0
        while len(prompt := self._render(turns)) > self._longest_prompt and len(turns) > 1:
            turns = turns[2:]  # a question and its answer
            left_out += 2
        if left_out and not consent(left_out):
            raise wrong_input("E601", "the conversation no longer fits the context", help="/reset, or /undo a turn")
        request = self.engine.submit(prompt, self.sampling)
        self.turns = turns
        return request, left_out

    def answered(self, request: "Request") -> bool:
        """Note an answer; a question to which nothing was said is forgotten. Whether there was one."""
        if request.transcript.parts:
            prompt = request.ids[: request.prompt_tokens]
            self.known.note("", prompt, request.completion(), self.engine.grammar.ends)
            self.turns.append({"role": "assistant", "content": request.transcript.parts})
            return True
        self.turns.pop()
        return False

    def reset(self) -> None:
        """Begin anew; the system message stays."""
        self.turns = []

    @property
    def _longest_prompt(self) -> int:
        context = self.engine.context
        return context - min(context // ANSWER_SHARE, self.sampling.max_tokens or context)

    def _render(self, turns: Sequence[Mapping[str, Any]]) -> list[int]:
        from nanochat.text.conversation import render_prompt  # loads the tokenizer's Rust, which --help does without

        conversation = {"messages": [*self.system, *turns]}
        return render_prompt(conversation, self.engine.tokenizer, lambda *turn: self.known.recall("", *turn))
