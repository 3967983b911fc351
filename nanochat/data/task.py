"""The contract of a task: conversations to learn from, and how to score an answer.

A task keeps the names it has in the nanochat world, so that one written elsewhere is registered without a change:
`eval_type`, `num_examples`, `get_example`, `evaluate`, and for reinforcement `reward`. Slices come from the base class.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from nanochat.errors import Diagnostic
from nanochat.text.conversation import content_text

Conversation = Mapping[str, Any]
"""{"messages": [{"role": "user" | "assistant" | "system", "content": str | [part, …]}, …]}; a part is
{"type": "text" | "python" | "python_output", "text": str}, and "tool" in a call of a tool with specials of its own.
A categorical one carries "letters" too."""


class Task:
    """A list of conversations, seen through start, stop and step. Subclasses implement the methods that raise."""

    conditions: Mapping[str, Any] = {}
    """Plain data that a score depended on beside the answer, kept beside each: which layers held code that was run."""

    concurrent: bool = False
    """Whether `evaluate` takes a while and may be called in several threads at once, as one that runs programs."""

    def __init__(self, start: int = 0, stop: int | None = None, step: int = 1) -> None:
        if start < 0 or (stop is not None and stop < start) or step < 1:
            raise ValueError(f"a task's slice needs 0 <= start <= stop and step >= 1, not {start}, {stop}, {step}")
        self.start, self.stop, self.step = start, stop, step

    @property
    def eval_type(self) -> Literal["generative", "categorical"]:
        """Generative: the model writes an answer. Categorical: the letters' probabilities are compared."""
        raise NotImplementedError

    def num_examples(self) -> int:
        """How many examples there are before slicing."""
        raise NotImplementedError

    def get_example(self, index: int) -> Conversation:
        """The example at `index` of `num_examples()`; the last message is the reference answer."""
        raise NotImplementedError

    def evaluate(self, conversation: Conversation, completion: str) -> float | bool:
        """The score of a completion in [0, 1]."""
        raise NotImplementedError

    def reward(self, conversation: Conversation, completion: str) -> float:
        """What reinforcement pays for a completion: the score, unless a task says otherwise."""
        return float(self.evaluate(conversation, completion))

    def faults(self) -> Sequence[Diagnostic]:
        """What is known to be wrong with its examples, each of which raises an InputError when it is asked for."""
        return ()

    def __len__(self) -> int:
        stop = self.num_examples() if self.stop is None else min(self.stop, self.num_examples())
        return max(0, -(-(stop - self.start) // self.step))

    def __getitem__(self, index: int) -> Conversation:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.get_example(self.start + index * self.step)

    def __iter__(self) -> Iterator[Conversation]:
        return (self[index] for index in range(len(self)))


def spoken(conversation: Conversation) -> str:
    """All that is said in a conversation, one message a line."""
    return "\n".join(content_text(message["content"]) for message in conversation["messages"])
