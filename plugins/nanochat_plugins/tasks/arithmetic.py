"""The task `arithmetic`: sums, differences and products, answered with the calculator.

In: a split. Out: conversations such as

    user       What is 12 plus 34?
    assistant  <|python_start|>12+34<|python_end|><|output_start|>46<|output_end|>
               #### 46

Operands of + and − have one to three digits, those of × one or two. An answer is right when the number behind its
last `####` is. Two numbers that meet in a test question meet in no training one, in either order and under any
operation.
"""

import random

from nanochat.config import config
from nanochat.data.task import Conversation
from nanochat_plugins.tasks.generated import GeneratedConfig, GeneratedTask, draw, final_number, held_out

TEST_SHARE = 0.1
PHRASINGS: dict[str, tuple[str, ...]] = {
    # {a} and {b} stand as in a+b: "Subtract {b} from {a}".
    "+": ("What is {a} plus {b}?", "Add {a} and {b}.", "What is the sum of {a} and {b}?", "How much is {a} plus {b}?"),
    "-": ("What is {a} minus {b}?", "Subtract {b} from {a}.", "How much is {a} minus {b}?", "Take {b} away from {a}."),
    "*": ("What is {a} times {b}?", "Multiply {a} by {b}.", "How much is {a} times {b}?", "What is {a} × {b}?"),
}
WITH_SIGN = (
    "What is {a} {sign} {b}?",
    "{a} {sign} {b}",
    "{a}{sign}{b}",
    "{a} {sign} {b} =",
    "Calculate {a} {sign} {b}.",
)


@config
class ArithmeticConfig(GeneratedConfig):
    """Sums, differences and products of two numbers, in many phrasings, answered by the calculator. Take it to teach a
    model to use a tool: it is learnt in minutes on a CPU, and needs `calculator` among the stage's tools.
    """


class Arithmetic(GeneratedTask):
    """Conversations about two numbers."""

    def __init__(self, config: ArithmeticConfig) -> None:
        super().__init__(config)
        self._config = config

    def get_example(self, index: int) -> Conversation:
        chance = draw(self._config, index)
        sign = chance.choice("+-*")
        a, b = _operands(chance, sign, test=self._config.split == "test")
        result = str({"+": a + b, "-": a - b, "*": a * b}[sign])
        answer = [
            {"type": "python", "text": f"{a}{sign}{b}"},
            {"type": "python_output", "text": result},
            {"type": "text", "text": f"\n#### {result}"},
        ]
        question = chance.choice(PHRASINGS[sign] + WITH_SIGN).format(a=a, b=b, sign=sign)
        return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}

    def evaluate(self, conversation: Conversation, completion: str) -> bool:
        reference = conversation["messages"][-1]["content"][-1]["text"]
        return final_number(completion) == final_number(reference)


def _operands(chance: random.Random, sign: str, *, test: bool) -> tuple[int, int]:
    """Two numbers of the split, each count of digits as likely as the others."""
    while True:
        a, b = (chance.randrange(10 ** chance.randint(1, 2 if sign == "*" else 3)) for _ in range(2))
        if held_out(f"{min(a, b)} {max(a, b)}", TEST_SHARE) == test:
            return a, b
