"""What the generated tasks share: their options, their kind, and a generator for each example.

In: a recipe's table. Out: `draw(config, index)`, a random generator that depends on seed, split and index alone, so
that any example is reached at once. Not here: which operands or words belong to which split; each task decides that
by their content, so that no seed brings a test example into training.
"""

import hashlib
import random
import re
from typing import Literal

from nanochat.config import config, option
from nanochat.data.task import Task
from nanochat_plugins.tasks.slice_config import SliceConfig

_MARKED = re.compile(r"####\s*(-?[\d,]*\.?\d+)")


@config
class GeneratedConfig(SliceConfig):
    """Options of a generated task."""

    split: str = option(
        "train", choices=("train", "test"), doc="what is asked in one is asked in no example of the other"
    )
    size: int = option(10_000, minimum=1, maximum=10**10, doc="examples")
    seed: int = option(0, minimum=0, maximum=2**63 - 1, doc="which examples are drawn")


class GeneratedTask(Task):
    """A task whose examples are made when they are asked for."""

    def __init__(self, config: GeneratedConfig) -> None:
        super().__init__(config.start, config.stop, config.step)
        self._size = config.size

    @property
    def eval_type(self) -> Literal["generative"]:
        return "generative"

    def num_examples(self) -> int:
        return self._size


def draw(config: GeneratedConfig, index: int) -> random.Random:
    """The generator of one example."""
    return random.Random(f"{config.seed}/{config.split}/{index}")


def held_out(content: str, share: float) -> bool:
    """Whether what an example asks for belongs to the test split: by its digest, for about `share` of all contents."""
    digest = hashlib.sha256(b"test:" + content.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def final_number(text: str) -> str | None:
    """The number behind the last `####` of an answer, without commas; None where there is none."""
    found = _MARKED.findall(text)
    return found[-1].replace(",", "") if found else None
