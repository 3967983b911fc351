"""The problems that a model is rewarded for: an endless order of those to train on, and those that never are.

In: tasks with their shares, a tokenizer. Out: problems with their prompts. Those that are held out are drawn first,
from all tasks alike; a training example that asks the same is passed over, wherever it stands. Not here: answers,
rewards.
"""

from collections.abc import Mapping
from typing import Any

import attrs

from nanochat.data.task import Conversation, Task
from nanochat.data.task_mixture import TaskMixture, TaskShare
from nanochat.errors import InputError, NanochatError, wrong_input
from nanochat.text.conversation import content_text, render_prompt
from nanochat.text.tokenizer import Tokenizer

_HELD_OUT_SEED = 1
"""Added to the seed of the order: what is held out comes from an order of its own."""


@attrs.frozen(kw_only=True, eq=False)
class Problem:
    """A question, and what scores an answer to it."""

    number: int
    """Its place in the endless order."""
    name: str
    """Its task's, in the recipe."""
    index: int
    """Of the example in its task."""
    task: Task
    conversation: Conversation
    prompt: list[int]

    @property
    def question(self) -> str:
        """The last message of the user."""
        said: Any = next(m["content"] for m in reversed(self.conversation["messages"]) if m["role"] == "user")
        return content_text(said)


class Problems:
    """The problems of a stage. Every rank has the same ones in the same order."""

    def __init__(
        self, tasks: Mapping[str, TaskShare], tokenizer: Tokenizer, *, held_out: int, longest_prompt: int, seed: int
    ) -> None:
        """longest_prompt: in tokens; longer ones are passed over. E302 where there are too few problems."""
        self._tokenizer, self._longest = tokenizer, longest_prompt
        self._mixture = TaskMixture(tasks, seed)
        self.too_long: set[tuple[str, int]] = set()
        """Problems that were passed over for their length since this process began: task, example."""
        self.next_number = 0
        """The place of the next problem in the endless order."""
        self._kept: set[tuple[int, ...]] = set()
        alike = {name: attrs.evolve(share, epochs=1, weight=None, phase=0) for name, share in tasks.items()}
        self.held_out = self._drawn(TaskMixture(alike, seed + _HELD_OUT_SEED), held_out)

    def __len__(self) -> int:
        """Examples of one pass, those that are passed over included."""
        return len(self._mixture)

    @property
    def passes(self) -> int:
        """Whole passes that lie behind."""
        return self.next_number // len(self._mixture)

    def take(self, count: int) -> list[Problem]:
        """The next `count` problems. E302 where a whole pass has none."""
        found: list[Problem] = []
        barren = 0
        while len(found) < count:
            problem = self._problem(self._mixture, self.next_number)
            self.next_number += 1
            if problem is not None and tuple(problem.prompt) not in self._kept:
                found.append(problem)
                barren = 0
            else:
                barren += 1
            if barren > len(self._mixture):
                raise self._mixture.empty(f"each problem is held out, or longer than {self._longest} tokens")
        return found

    def _drawn(self, order: TaskMixture, count: int) -> list[Problem]:
        found: list[Problem] = []
        for number in range(len(order) if count else 0):
            problem = self._problem(order, number)
            if problem is not None and tuple(problem.prompt) not in self._kept:
                self._kept.add(tuple(problem.prompt))
                found.append(problem)
            if len(found) == count:
                break
        if len(found) < count:
            raise wrong_input(
                "E302",
                f"{count} problems are to be held out of the training, and there are {len(found)} different ones",
                help="set a smaller `held_out`, or give the stage more problems",
            )
        return found

    def _problem(self, order: TaskMixture, number: int) -> Problem | None:
        """The problem at a place of an order; None where its prompt is too long."""
        name, index = order.place(number)
        task = order.shares[name].task
        conversation = task[index]
        try:
            prompt = render_prompt(conversation, self._tokenizer)
        except InputError as error:
            raise _placed(error, name, index) from error
        if len(prompt) > self._longest:
            self.too_long.add((name, index))
            return None
        return Problem(number=number, name=name, index=index, task=task, conversation=conversation, prompt=prompt)


def _placed(error: InputError, name: str, index: int) -> NanochatError:
    place = f"example {index} of the task `{name}`: "
    return InputError([attrs.evolve(found, message=place + found.message) for found in error.diagnostics])
