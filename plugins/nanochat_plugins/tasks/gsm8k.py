"""The task `gsm8k`: school mathematics in words, reckoned with the calculator (arXiv 2110.14168).

In: openai/gsm8k, where a solution marks its sums as <<48/2=24>> and ends with "#### 72". Out: conversations such as

    user       Natalia sold clips to 48 of her friends in April, and then …
    assistant  Natalia sold 48/2 = <|python_start|>48/2<|python_end|><|output_start|>24<|output_end|>24 clips in May. …
               #### 72

An answer is right when the number behind its last `####` is: commas, a $ or % and a needless .0 do not matter, a sign
does. The reward is 0 or 1.
"""

import re
from typing import Any

from nanochat.config import config, option
from nanochat.data.task import Conversation
from nanochat_plugins.tasks.hub_rows import HubRowsConfig, HubTask

REPO = "openai/gsm8k"
_SUM = re.compile(r"<<([^<>]*)>>")
_MARKED = re.compile(r"####\s*([-+−]?)\s*\$?\s*([-+−]?)\s*(\d[\d,]*(?:\.\d+)?|\.\d+)")


@config
class GSM8KConfig(HubRowsConfig):
    """School mathematics in words, 7,473 to learn from and 1,319 to be tested on. Take it for reasoning in steps; it
    needs `calculator` among the stage's tools, and `reinforce` improves a model on it.
    """

    subset: str = option("main", choices=("main", "socratic"), doc="socratic: each step begins with its question")
    split: str = option("train", choices=("train", "test"), doc="test is for the final evaluation alone")


class GSM8K(HubTask):
    """The problems of a split."""

    def __init__(self, config: GSM8KConfig) -> None:
        super().__init__(config, REPO, f"{config.subset}/{config.split}-*.parquet", ("question", "answer"))

    def get_example(self, index: int) -> Conversation:
        row = self.rows[index]
        answer = {"role": "assistant", "content": parts(row["answer"])}
        return {"messages": [{"role": "user", "content": row["question"]}, answer]}

    def evaluate(self, conversation: Conversation, completion: str) -> bool:
        reference = conversation["messages"][-1]["content"][-1]["text"]
        return (found := final_number(completion)) is not None and found == final_number(reference)


def parts(solution: str) -> list[dict[str, Any]]:
    """A solution's text, with each <<expression=result>> as a tool's call and output; the last part is text."""
    found: list[dict[str, Any]] = []
    for place, piece in enumerate(_SUM.split(solution)):  # sums are at the odd places
        if place % 2:
            expression, _, result = piece.rpartition("=")
            if expression:
                found += [{"type": "python", "text": expression}, {"type": "python_output", "text": result}]
        elif piece:
            found.append({"type": "text", "text": piece})
    return found


def final_number(text: str) -> str | None:
    """The number behind the last `####`, without commas, $ and needless zeros; None where there is none."""
    marked = _MARKED.findall(text)
    if not marked:
        return None
    before, after, digits = marked[-1]
    whole, _, fraction = digits.replace(",", "").partition(".")
    number = f"{whole.lstrip('0') or '0'}.{fraction}".rstrip("0").rstrip(".")
    negative = ("-" in before + after or "−" in before + after) and number != "0"
    return f"-{number}" if negative else number
