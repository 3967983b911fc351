"""The task `custom_json`: conversations of the user's own, from a JSONL file.

In: a file with one conversation a line, either `{"messages": [{"role": "user", "content": "…"}, …]}` or the list of
messages alone:

    {"messages": [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello!"}]}
    [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello!"}]

Out: these conversations in the file's order. An answer is right when it is the last message, word for word.
InputError E301 where the file is not there, E302 where it is empty, E306 for a bad line, by its number.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from nanochat.config import Fingerprinted, config, option
from nanochat.data.task import Conversation, Task
from nanochat.errors import Diagnostic, InputError, wrong_input

ROLES = ("system", "user", "assistant")
PARTS = ("text", "python", "python_output")
SHOWN = 10  # bad lines named at once


@config
class CustomJSONConfig(Fingerprinted):
    """A file of conversations."""

    # The content decides the result, not the place: the fingerprint stands for it.
    path: Path = option(execution=True, doc="a JSONL file of conversations, relative to the recipe's file")
    start: int = option(0, minimum=0, doc="first conversation of the slice")
    stop: int | None = option(None, minimum=0, doc="end of the slice, exclusive")
    step: int = option(1, minimum=1)

    def fingerprint(self) -> Mapping[str, Any]:
        """The file's digest."""
        return {"sha256": hashlib.sha256(_content(self.path)).hexdigest()}

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
        content = conversation["messages"][-1]["content"]
        wanted = content if isinstance(content, str) else "".join(p["text"] for p in content if p["type"] == "text")
        return completion.split() == wanted.split()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as fault:
        raise wrong_input(
            "E301", f"there is no file {path}", help="`path` is a JSONL file, relative to the recipe's file"
        ) from fault
    except OSError as fault:
        raise wrong_input("E304", f"{path} cannot be read: {fault.strerror}") from fault


def _read(path: Path) -> list[Conversation]:
    conversations: list[Conversation] = []
    faults: list[Diagnostic] = []
    for number, line in enumerate(_content(path).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            conversations.append(_conversation(line))
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
    """One line's conversation. ValueError says what is wrong with it."""
    found = json.loads(line.decode())
    conversation = {"messages": found} if isinstance(found, list) else found
    messages = conversation.get("messages") if isinstance(conversation, dict) else None
    if not isinstance(messages, list) or not messages:
        raise ValueError("it has no list of messages")
    for place, message in enumerate(messages, 1):
        if fault := _fault(message):
            raise ValueError(f"message {place} {fault}")
    turns = [message["role"] for message in messages if message["role"] != "system"]
    if any(message["role"] == "system" for message in messages[1:]):
        raise ValueError("a system message can only come first")
    if not turns or turns != (["user", "assistant"] * len(turns))[: len(turns)]:
        raise ValueError(f"user and assistant must take turns, the user first; found {', '.join(turns) or 'neither'}")
    if len(turns) % 2:
        raise ValueError("the last message must be the assistant's")
    return conversation


def _fault(message: Any) -> str:
    """What is wrong with a message, or nothing."""
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        return f"needs a role, one of {', '.join(ROLES)}"
    content = message.get("content")
    if isinstance(content, str):
        return "" if content.strip() else "is empty"
    if not isinstance(content, list) or not content:
        return "needs a content: a text or a list of parts"
    for part in content:
        if not isinstance(part, dict) or part.get("type") not in PARTS or not isinstance(part.get("text"), str):
            return f'has a part that is no {{"type": …, "text": …}} of a type {", ".join(PARTS)}'
    return ""
