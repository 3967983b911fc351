"""The task `custom_json`: conversations of the user's own, from a JSONL file.

In: a file with one conversation a line, either `{"messages": [{"role": "user", "content": "…"}, …]}` or the list of
messages alone:

    {"messages": [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello!"}]}
    [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello!"}]

Out: these conversations in the file's order. An answer is right when it is the last message, word for word.
InputError E301 where the file is not there, E302 where it is empty, E306 for a bad line, by its number.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from nanochat.config import Fingerprinted, config, option
from nanochat.data.task import Conversation, Task
from nanochat.errors import Diagnostic, InputError, wrong_input
from nanochat.text.conversation import check_conversation
from nanochat_plugins.tasks.user_file import content, digest

SHOWN = 10  # bad lines named at once


@config
class CustomJSONConfig(Fingerprinted):
    """A file of conversations."""

    # The content decides the result, not the place: the fingerprint stands for it.
    path: Path = option(execution=True, doc="a JSONL file of conversations, relative to the recipe's file")
    start: int = option(0, minimum=0, doc="first conversation of the slice")
    stop: int | None = option(None, minimum=0, doc="end of the slice, exclusive")
    step: int = option(1, minimum=1, doc="every how many conversations one is taken")

    def fingerprint(self) -> Mapping[str, Any]:
        """The file's digest."""
        return {"sha256": digest(self.path)}

    def problems(self) -> list[str]:
        """What does not fit together."""
        if self.stop is not None and self.stop < self.start:
            return [f"stop ({self.stop}) must not come before start ({self.start})"]
        return []


class CustomJSON(Task):
    """The conversations of a file, all in memory."""

    def __init__(self, config: CustomJSONConfig) -> None:
        super().__init__(config.start, config.stop, config.step)
        self._conversations = _read(config.path)

    @property
    def eval_type(self) -> Literal["generative"]:
        return "generative"

    def num_examples(self) -> int:
        return len(self._conversations)

    def get_example(self, index: int) -> Conversation:
        return self._conversations[index]

    def evaluate(self, conversation: Conversation, completion: str) -> bool:
        answer = conversation["messages"][-1]["content"]
        wanted = answer if isinstance(answer, str) else "".join(p["text"] for p in answer if p["type"] == "text")
        return completion.split() == wanted.split()


def _read(path: Path) -> list[Conversation]:
    conversations: list[Conversation] = []
    faults: list[Diagnostic] = []
    for number, line in enumerate(content(path).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            conversations.append(_conversation(line))
        except InputError as fault:
            faults += [attrs.evolve(found, message=f"{path}:{number}: {found.message}") for found in fault.diagnostics]
        except (ValueError, RecursionError) as fault:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
            message = f"{path}:{number} is no conversation: {fault}"
            faults.append(Diagnostic(code="E306", message=message, help=_HELP))
    if faults:
        raise InputError(faults[:SHOWN])
    if not conversations:
        raise wrong_input("E302", f"{path} holds no conversation", help=_HELP)
    return conversations


_HELP = 'a line is {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'


def _conversation(line: bytes) -> Conversation:
    """One line's conversation. ValueError or InputError says what is wrong with it."""
    found = json.loads(line.decode())
    conversation: Conversation = {"messages": found} if isinstance(found, list) else found
    check_conversation(conversation)
    if conversation["messages"][-1]["role"] != "assistant":
        raise ValueError("the last message must be the assistant's")
    return conversation
