"""Questions with several choices, of which a model names one by its letter: what the tasks `arc` and `mmlu` share.

In: a question, its choices, the letters that stand for them. Out: a categorical conversation, a letter's score:

    user       Multiple Choice question: Which is heaviest?
               - a feather=A
               - a stone=B

               Respond only with the letter of the correct answer.
    assistant  B

A letter comes after its choice, without a space: so it is the same token as the answer.
"""

from collections.abc import Sequence
from typing import Literal

from nanochat.data.task import Conversation
from nanochat_plugins.tasks.hub_rows import HubTask


class Choices(HubTask):
    """A task on the hub whose answers are letters."""

    @property
    def eval_type(self) -> Literal["categorical"]:
        return "categorical"

    def evaluate(self, conversation: Conversation, completion: str) -> bool:
        return completion.strip() == str(conversation["messages"][-1]["content"])


def choice(question: str, choices: Sequence[str], letters: Sequence[str], answer: str) -> Conversation:
    """A question as a conversation; `answer` is one of the letters."""
    listed = "".join(f"- {text}={letter}\n" for text, letter in zip(choices, letters, strict=True))
    asked = f"Multiple Choice question: {question}\n{listed}\nRespond only with the letter of the correct answer."
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "letters": list(letters)}
