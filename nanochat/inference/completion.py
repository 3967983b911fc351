"""What an answer is: its parts, its ids, what is told of them, why it ended.

In: nothing. Out: the types that an engine fills and that whoever asked reads, in another process too. Imports no torch.
"""

from collections.abc import Sequence
from typing import Literal, NotRequired, TypedDict

import attrs

FinishReason = Literal["stop", "length", "cancelled"]
"""stop: the model ended its answer, or a stop string did. length: max_tokens or the context's end was reached."""


class Part(TypedDict):
    """A stretch of an answer: `text`, `python` (a call's expression) or `python_output` (its result)."""

    type: str
    text: str
    tool: NotRequired[str]
    """Which tool is called, where it has special tokens of its own."""


@attrs.frozen
class Told:
    """One id, its log-probability (None: nothing stood before it), and the likeliest ids with theirs."""

    id: int
    logprob: float | None
    top: Sequence[tuple[int, float]] = ()


@attrs.frozen(kw_only=True)
class Completion:
    """A finished answer."""

    ids: list[int]
    """All that followed the prompt: sampled ids, forced tool results, the id that ended the answer."""
    text: str
    """What is said, without tool calls and their results."""
    parts: list[Part]
    """Everything in order: text, python (a call's expression), python_output (its result)."""
    finish_reason: FinishReason
    prompt_tokens: int
    cached_tokens: int = 0
    """How many of the prompt's were in the cache."""
    told: Sequence[Told] = ()
    """Log-probabilities of the ids that spell the text, where they were asked for."""
    prompt_told: Sequence[Told] = ()
