"""What a server and an engine say to one another: jobs and cancellations go in, what is written of them comes back.

In and out: small frozen things that also travel between processes. A job has a number, by which all is told of it.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

import attrs

from nanochat.inference.completion import Completion, Part, Told
from nanochat.inference.sampling import Sampling
from nanochat.text.tokenizer import Tokenizer


class EngineFailed(Exception):
    """The engine raised while it was answering, or has been stopped."""


@attrs.frozen(kw_only=True)
class About:
    """What a server has to know of an engine."""

    tokenizer: Tokenizer
    context: int
    """Ids that a prompt and its answer may have together."""
    ends: frozenset[int]
    """Ids of which each ends an answer."""
    tools: bool
    """Whether the model may call any."""


@attrs.frozen(kw_only=True)
class Job:
    """A prompt to be answered. Only jobs of one salt share what is cached."""

    prompt: Sequence[int]
    sampling: Sampling
    salt: str = ""


class Update(NamedTuple):
    """What was added to a job's answer. The first also has what is told of the prompt, the last the completion.

    A tuple: there is one for each row of each step, and attrs' classes take eight times as long to be pickled.
    """

    parts: Sequence[Part] = ()
    told: Sequence[Told] = ()
    prompt_told: Sequence[Told] = ()
    completion: Completion | None = None


Order = tuple[int, Job | None]
"""A job and its number; without a job: whoever asked for it has gone."""
Message = Update | Exception | Literal["accepted", "cancelled"]
"""What is told of a job. Nothing more is told of it after a completion, an exception, or its cancellation."""
Hear = Callable[[Sequence[tuple[int, Message]]], None]
"""Takes what one step has to tell of jobs, by their numbers."""


class Link(Protocol):
    """The way to an engine that works elsewhere: in another thread, or another process."""

    @property
    def about(self) -> About:
        """What is known of the engine."""
        ...

    @property
    def pid(self) -> int | None:
        """Of the engine's process, if it has one of its own."""
        ...

    def start(self, hear: Hear, ended: Callable[[str], None]) -> None:
        """From now on call `hear`, from one thread; in the end, however it comes, `ended` with the reason, once."""
        ...

    def post(self, orders: Sequence[Order]) -> None:
        """Send orders, from any thread; those that come after the end are lost."""
        ...

    def stop(self) -> None:
        """Ask the engine to finish its step and end; return when it has."""
        ...
