"""Conversations that another model writes: about who the assistant is, or about topics, to finetune on.

In: a brief (persona, topics, seed) and a writer that completes a prompt. Out: conversations, each of a number that
decides what is asked for, so that a file that was cut off is gone on with. What comes back is looked at as a
conversation of the user's own would be; what is none, or was written before, is asked for again, a few times.
Not here: the wire (`nanochat/cli/data_synth.py`).
"""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from nanochat.data.task import Conversation
from nanochat.errors import InputError
from nanochat.text.conversation import check_conversation

USERS = (
    "a curious child", "a programmer in a hurry", "a teacher who prepares a lesson", "someone who learns English",
    "a sceptical engineer", "a student before an examination", "a grandmother at her first computer", "a journalist",
    "someone who cannot sleep", "a researcher", "a cheerful stranger", "someone who is annoyed",
)  # fmt: skip
MANNERS = (
    "plainly", "in one short line", "politely", "with a typing error or two", "in small letters, without punctuation",
    "with some context first", "playfully", "sceptically", "in two sentences", "in another language than English",
)  # fmt: skip
OPENINGS = (
    "a greeting", "a question", "a request", "a claim to be judged", "something about their day", "a comparison",
    "a misunderstanding to be cleared up", "a question about the assistant itself",
)  # fmt: skip
TURNS = (1, 1, 2, 2, 3)
"""How many times the user speaks, each as likely."""

Writer = Callable[[str, int], str]
"""Prompt and seed → what the model writes."""


@attrs.frozen(kw_only=True)
class Brief:
    """What is wanted."""

    persona: str
    """Who the assistant is, and how it speaks."""
    topics: Sequence[str] = ()
    """What is talked about; without any, the assistant itself."""
    seed: int = 0

    def prompt(self, number: int) -> str:
        """What is asked for as conversation `number`; the same each time."""
        chance = random.Random(f"{self.seed}/{number}")
        topic = chance.choice(list(self.topics)) if self.topics else "the assistant itself: who it is, what it can do"
        turns = chance.choice(TURNS)
        return (
            f"Write a conversation between a user and an AI assistant.\n\nThe assistant:\n{self.persona.strip()}\n\n"
            f"The topic: {topic}\nThe user is {chance.choice(USERS)}, writes {chance.choice(MANNERS)}, and begins with "
            f"{chance.choice(OPENINGS)}. The user speaks {turns} time{'s' if turns > 1 else ''}, and the assistant "
            f"answers each time, true to the description above.\n\nRespond with nothing but JSON of this form:\n"
            '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'
        )


@attrs.define(kw_only=True)
class Synthesis:
    """Conversations in the making."""

    brief: Brief
    write: Writer
    tries: int = 3
    seen: set[str] = attrs.field(factory=set)
    """Conversations that were written before, as `fingerprint` gives them."""

    def conversation(self, number: int) -> Conversation | str:
        """Conversation `number`; after so many tries, what was wrong with the last one."""
        reason = ""
        for attempt in range(self.tries):
            said = self.write(self.brief.prompt(number), self.brief.seed + 1_000_003 * number + attempt)
            try:
                found = read_conversation(said)
            except InputError as fault:
                reason = fault.diagnostics[0].message
                continue
            except (ValueError, RecursionError) as fault:
                reason = f"it is no conversation: {fault}"
                continue
            if (mark := fingerprint(found)) not in self.seen:
                self.seen.add(mark)
                return found
            reason = "it was written before"
        return reason


def read_conversation(said: str) -> Conversation:
    """The conversation in what a model wrote, fences and words around it left out. ValueError, InputError E306."""
    start, end = said.find("{"), said.rfind("}")
    if start < 0 or end < start:
        raise ValueError("there is no JSON in it")
    found: Any = json.loads(said[start : end + 1])
    check_conversation(found)
    messages = [{"role": message["role"], "content": message["content"]} for message in found["messages"]]
    if messages[0]["role"] != "user" or messages[-1]["role"] != "assistant":
        raise ValueError("it begins with the user, and ends with the assistant")
    if not all(isinstance(message["content"], str) and message["content"].strip() for message in messages):
        raise ValueError("each message says something, as a string")
    return {"messages": messages}


def fingerprint(conversation: Conversation) -> str:
    """What two conversations share that say the same."""
    return " ".join(" ".join(str(message["content"]) for message in conversation["messages"]).lower().split())
