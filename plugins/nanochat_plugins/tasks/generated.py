"""What the generated tasks share: their options, and a generator for each example.

In: a recipe's table. Out: `draw(config, index)`, a random generator that depends on seed, split and index alone, so
that any example is reached at once. Not here: which operands or words belong to which split; each task decides that
by their content, so that no seed brings a test example into training.
"""

import hashlib
import random
import re

from nanochat.config import Problem, config, option

_MARKED = re.compile(r"####\s*(-?[\d,]*\.?\d+)")


@config
class GeneratedConfig:
    """Options of a generated task."""

    split: str = option(
        "train", choices=("train", "test"), doc="what is asked in one is asked in no example of the other"
    )
    size: int = option(10_000, minimum=1, maximum=10**10, doc="examples")
    seed: int = option(0, minimum=0, maximum=2**63 - 1, doc="which examples are drawn")
    start: int = option(0, minimum=0, maximum=10**12, doc="first example of the slice")
    stop: int | None = option(None, minimum=0, maximum=10**12, doc="end of the slice, exclusive")
    step: int = option(1, minimum=1, maximum=10**12, doc="every how many examples one is taken")

    def problems(self) -> list[Problem]:
        """What does not fit together."""
        if self.stop is not None and self.stop < self.start:
            return [("stop", f"stop ({self.stop}) must not come before start ({self.start})")]
        return []


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
