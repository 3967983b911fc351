"""One request on its way through the engine, and what comes out of it.

In: a prompt's ids and sampling settings. Out: the ids written, the parts they spell, why it ended.
"""

import logging
import secrets

import attrs

from nanochat.inference.completion import Completion, FinishReason, Told
from nanochat.inference.logprobs import Ledger
from nanochat.inference.sampling import Sampling, uniform
from nanochat.inference.tool_call import ToolCall
from nanochat.inference.transcript import Transcript

log = logging.getLogger(__name__)


@attrs.define(eq=False, kw_only=True)
class Request:
    """A prompt being answered. Its first `cached` ids are in the slot's keys and values; the rest are to be fed."""

    prompt_tokens: int
    sampling: Sampling
    ids: list[int]
    """The prompt and what was written so far."""
    limit: int
    """The most ids that `ids` may hold: max_tokens after the prompt, and no more than the context."""
    transcript: Transcript
    salt: str = ""
    """Only requests with the same one share what is cached."""
    seed: int = attrs.field()
    slot: int | None = None
    cached: int = 0
    reused: int = 0
    """How many of the prompt's ids were in the cache."""
    last_fill: int = -1
    """The step in which it got its slot, or its last chunk of more than one id: whose turn it is."""
    call: ToolCall | None = None
    """The tool that is at work for it."""
    ledger: Ledger = attrs.field(factory=Ledger)
    prompt_told: list[Told] = attrs.field(factory=list)
    finish_reason: FinishReason | None = None

    @seed.default
    def _seed(self) -> int:
        return secrets.randbits(63) if self.sampling.seed is None else self.sampling.seed

    @property
    def pending(self) -> int:
        """How many ids are still to be fed: the prompt's rest, a forced result, or the id sampled last."""
        return len(self.ids) - self.cached

    @property
    def room(self) -> int:
        """How many ids may still be written."""
        return self.limit - len(self.ids)

    @property
    def in_prompt(self) -> bool:
        """Whether nothing was written yet."""
        return len(self.ids) == self.prompt_tokens

    @property
    def telling(self) -> bool:
        """Whether its prompt is being fed, and told of."""
        return self.in_prompt and self.sampling.prompt_logprobs

    @property
    def previous_id(self) -> int:
        """The id before the next one to be fed; -1 at the row's start."""
        return self.ids[self.cached - 1] if self.cached else -1

    @property
    def uniform(self) -> float:
        """What chooses the next id."""
        return uniform(self.seed, len(self.ids) - self.prompt_tokens)

    def take_result(self) -> bool:
        """Whether its tool has ended; the result, if there is one, is then forced in."""
        if self.call is None or not self.call.finished():
            return False
        result, self.call = self.call.result, None
        if result is not None:
            self._force(result)
        return True

    def accept(self, token: int, told: Told | None = None) -> None:
        """Take the sampled id: end the answer, call a tool, or go on."""
        self.ids.append(token)
        transcript = self.transcript
        says = transcript.call is None and transcript.grammar.begun_by(token) is None
        call = transcript.push(token)
        if told is not None and says and token not in transcript.grammar.ends:
            self.ledger.add(told, len(transcript.tokenizer.decode_bytes([token])))
        if transcript.ended:
            self.ledger.cut(len(transcript.stop_text.held.encode()))
            self.finish_reason = "stop"
        elif call is not None and self.room:
            self.call = ToolCall(call[0].tools, call[1])
        elif not self.room:
            self.finish("length")

    def _force(self, result: str) -> None:
        """A result that does not fit is left out and ends the answer: half a result would be a wrong one."""
        try:
            forced = self.transcript.encode_result(result)
        except ValueError:  # the tokenizer gives this text up: no result, and no other request's fault
            log.exception("a tool's result is no text for this tokenizer")
            return
        if len(forced) < self.room:
            self.transcript.show_result(result)
            self.ids += forced
        else:
            self.finish("length")

    def finish(self, reason: FinishReason) -> None:
        """End the answer."""
        self.transcript.close()
        self.finish_reason, self.call = reason, None

    def take_told(self) -> list[Told]:
        """What is told of the text that `transcript.take` gives."""
        held = 0 if self.finish_reason else len(self.transcript.stop_text.held.encode())
        return self.ledger.take(held)

    def completion(self) -> Completion:
        """The answer, once there is a finish reason."""
        assert self.finish_reason is not None, "the request is still being answered"
        return Completion(
            ids=self.ids[self.prompt_tokens :],
            text=self.transcript.text,
            parts=self.transcript.parts,
            finish_reason=self.finish_reason,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.reused,
            told=self.ledger.told,
            prompt_told=self.prompt_told,
        )
