"""The task `custom_json`: conversations of the user's own, from a JSONL file.

In: a file with one conversation a line, either `{"messages": [{"role": "user", "content": "…"}, …]}` or the list of
messages alone:

    {"messages": [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello!"}]}
    [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello!"}]

Out: these conversations in the file's order. An answer is right when it is the last message, word for word.
InputError E301 where the file is not there, E302 where it is empty. A bad line is an example that raises E306, with its
place, when it is asked for; `faults` has all of them. The first lines are looked at when a recipe is planned: where
none of them is a conversation, the file is of another kind.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import attrs

from nanochat.config import Fingerprinted, config, option
from nanochat.data.task import Conversation, Task
from nanochat.errors import Diagnostic, InputError, Location, wrong_input
from nanochat.text.conversation import check_conversation
from nanochat_plugins.tasks.slice_config import SliceConfig
from nanochat_plugins.tasks.user_file import content

SHOWN_BYTES = 10_000  # of a bad line
LOOKED_AT = 3
"""Lines of a file that a plan reads: a file of another kind shows it there, and a plan stays quick."""


@config
class CustomJSONConfig(SliceConfig, Fingerprinted):
    """Conversations of your own, from a JSONL file; take it to teach a model how you want it to answer. A line is
    {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}, or that list alone.
    """

    # The content decides the result, not the place: the fingerprint stands for it.
    path: Path = option(execution=True, doc="a JSONL file of conversations, relative to the recipe's file")

    def fingerprint(self) -> Mapping[str, Any]:
        """The file's digest. InputError E302, E306 where none of its first lines is a conversation."""
        read = content(self.path)
        first = _examples(self.path, islice(_lines(read), LOOKED_AT))
        if all(isinstance(example, InputError) for example in first):
            raise InputError(_faults(first))
        return {"sha256": hashlib.sha256(read).hexdigest()}


class CustomJSON(Task):
    """The conversations of a file, all in memory."""

    def __init__(self, config: CustomJSONConfig) -> None:
        super().__init__(config.start, config.stop, config.step)
        self._examples = _examples(config.path, _lines(content(config.path)))

    @property
    def eval_type(self) -> Literal["generative"]:
        return "generative"

    def num_examples(self) -> int:
        return len(self._examples)

    def get_example(self, index: int) -> Conversation:
        example = self._examples[index]
        if isinstance(example, InputError):
            raise InputError(example.diagnostics)
        return example

    def faults(self) -> Sequence[Diagnostic]:
        return _faults(self._examples[self.start : self.stop : self.step])

    def evaluate(self, conversation: Conversation, completion: str) -> bool:
        answer = conversation["messages"][-1]["content"]
        wanted = answer if isinstance(answer, str) else "".join(p["text"] for p in answer if p["type"] == "text")
        return completion.split() == wanted.split()


def _lines(read: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers."""
    return ((number, line) for number, line in enumerate(io.BytesIO(read), 1) if line.strip())


def _examples(path: Path, lines: Iterable[tuple[int, bytes]]) -> list[Conversation | InputError]:
    """Each line's conversation, or what is wrong with it. InputError E302 where there is none."""
    found = [_example(path, number, line) for number, line in lines]
    if not found:
        raise wrong_input("E302", f"{path} holds no conversation", help=_HELP)
    return found


def _faults(examples: Iterable[Conversation | InputError]) -> list[Diagnostic]:
    return [said for example in examples if isinstance(example, InputError) for said in example.diagnostics]


def _example(path: Path, number: int, line: bytes) -> Conversation | InputError:
    try:
        return _conversation(line)
    except InputError as fault:
        place = _place(path, number, line, 1)
        return InputError([attrs.evolve(said, location=place) for said in fault.diagnostics])
    except (ValueError, RecursionError) as fault:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        reason = fault.msg if isinstance(fault, json.JSONDecodeError) else str(fault)
        place = _place(path, number, line, getattr(fault, "colno", 1))
        return InputError(Diagnostic(code="E306", message=f"no conversation: {reason}", location=place, help=_HELP))


def _place(path: Path, number: int, line: bytes, column: int) -> Location:
    text = line[:SHOWN_BYTES].decode(errors="replace").rstrip("\r\n")
    return Location(path=str(path), line=number, column=column, text=text)


_HELP = 'a line is {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'


def _conversation(line: bytes) -> Conversation:
    """One line's conversation. ValueError or InputError says what is wrong with it."""
    found = json.loads(line.decode())
    conversation: Conversation = {"messages": found} if isinstance(found, list) else found
    check_conversation(conversation)
    if conversation["messages"][-1]["role"] != "assistant":
        raise ValueError("the last message must be the assistant's")
    return conversation
