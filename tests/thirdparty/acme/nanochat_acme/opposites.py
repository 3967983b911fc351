"""The task `opposites`: "What is the opposite of hot?" is answered with "cold"."""

from typing import Literal

from nanochat.data.task import Conversation, Task

PAIRS = [
    *[("hot", "cold"), ("big", "small"), ("day", "night"), ("old", "new"), ("wet", "dry"), ("up", "down")],
    *[("fast", "slow"), ("open", "closed"), ("full", "empty"), ("hard", "soft"), ("long", "short"), ("good", "bad")],
]


class Opposites(Task):
    """Both directions of each pair; every sixth pair is for the test split."""

    def __init__(self, split: str = "train", start: int = 0, stop: int | None = None, step: int = 1) -> None:
        super().__init__(start, stop, step)
        pairs = [pair for number, pair in enumerate(PAIRS) if (number % 6 == 5) == (split == "test")]
        self.pairs = pairs + [(second, first) for first, second in pairs]

    @property
    def eval_type(self) -> Literal["generative"]:
        return "generative"

    def num_examples(self) -> int:
        return len(self.pairs)

    def get_example(self, index: int) -> Conversation:
        word, opposite = self.pairs[index]
        return {
            "messages": [
                {"role": "user", "content": f"What is the opposite of {word}?"},
                {"role": "assistant", "content": opposite},
            ]
        }

    def evaluate(self, conversation: Conversation, completion: str) -> bool:
        reference: str = conversation["messages"][-1]["content"]
        return completion.strip().lower() == reference
