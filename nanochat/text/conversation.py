"""A conversation as ids, with a mask that says what the assistant itself writes.

In: {"messages": [{"role", "content"}, …]}, content a string or a list of parts {"type", "text"}. A system message may
come first and is merged into the user message after it; then users and assistants take turns.
Out: `<|bos|>`, and for each turn its start, its text, its end; a `python` part stands between python_start and
python_end, a `python_output` part between output_start and output_end. A `python` part with a key "tool" calls a tool
that has specials of its own: of "search" between search_start and search_end. Not here: cutting to a length, packing.
"""

import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import Factory, frozen

from nanochat.errors import InputError, wrong_input
from nanochat.text import special

if TYPE_CHECKING:  # planning looks at conversations, and does without NumPy and the encoder
    from nanochat.text.tokenizer import Tokenizer

PART_TYPES = ("text", "python", "python_output")
Recall = Callable[[Sequence[int], Any], Sequence[int] | None]
NO_TOOLS = ("text", "python_output", "user", "assistant", "output")
"""Names that no tool may have: what else there is of parts, and of specials that begin something."""
SHAPE = 'a conversation is {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}, …]}'


@frozen
class Rendered:
    """Ids, and for each 1 where the assistant writes it, 0 where it is given."""

    ids: list[int] = Factory(list)
    mask: list[int] = Factory(list)

    def add(self, ids: Sequence[int], written: int) -> None:
        """Append ids that are all written by the assistant (1), or all given (0)."""
        self.ids.extend(ids)
        self.mask.extend([written] * len(ids))


@frozen
class _Turn:
    """A checked message: who speaks, in parts that can be encoded, and its place in the conversation."""

    role: str
    parts: list[tuple[str, str]]
    """Kind and text: text, python_output, or the tool that is called, `python` where none is named."""
    index: int
    content: Any = None
    """As it came."""


def check_conversation(conversation: Mapping[str, Any]) -> None:
    """Raises InputError E306, which names the message, for a conversation that cannot be rendered."""
    _turns(conversation)


def content_text(content: str | Sequence[Mapping[str, Any]]) -> str:
    """What stands in a message's content: a string, or the texts of its parts."""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def render_conversation(conversation: Mapping[str, Any], tokenizer: "Tokenizer") -> Rendered:
    """All turns. The mask is 1 on an assistant's text, its tool calls and `<|assistant_end|>`, never on tool output.

    Raises InputError E306 that names the message.
    """
    return _render(_turns(conversation), tokenizer)


def render_prompt(
    conversation: Mapping[str, Any], tokenizer: "Tokenizer", recall: Recall = lambda *_: None
) -> list[int]:
    """The ids up to the last user message, then `<|assistant_start|>`; an answer that follows is left out.

    recall: given the ids before an assistant's message and its content, the ids that it was sampled as, if that is
    known. Raises InputError E306 that names the message.
    """
    turns = _turns(conversation)
    if turns[-1].role == "assistant":
        turns = turns[:-1]
    return [*_render(turns, tokenizer, recall).ids, tokenizer.special_id(special.ASSISTANT_START)]


def _render(turns: Sequence[_Turn], tokenizer: "Tokenizer", recall: Recall = lambda *_: None) -> Rendered:
    rendered = Rendered()
    rendered.add([tokenizer.bos_id], 0)
    for turn in turns:
        by_assistant = turn.role == "assistant"
        start = special.ASSISTANT_START if by_assistant else special.USER_START
        end = special.ASSISTANT_END if by_assistant else special.USER_END
        rendered.add([tokenizer.special_id(start)], 0)
        said = recall(rendered.ids, turn.content) if by_assistant else None
        if said is not None:
            rendered.add(said, 1)
        for kind, text in turn.parts if said is None else ():
            ids = _encode(text, tokenizer, turn.index)
            if kind != "text":
                before, after = _around(kind, tokenizer, turn.index)
                ids = [before, *ids, after]
            rendered.add(ids, int(by_assistant and kind != "python_output"))
        rendered.add([tokenizer.special_id(end)], int(by_assistant))
    return rendered


def _around(kind: str, tokenizer: "Tokenizer", index: int) -> tuple[int, int]:
    """The specials around a tool's output or a call."""
    pair = (special.OUTPUT_START, special.OUTPUT_END) if kind == "python_output" else special.call_tokens(kind)
    try:
        return tokenizer.special_id(pair[0]), tokenizer.special_id(pair[1])
    except KeyError:
        raise _bad(
            f"messages[{index}] calls the tool {kind!r}, and the tokenizer has no {pair[0]} and {pair[1]}",
            f'train it with them: special_tokens = ["{pair[0]}", "{pair[1]}"]',
        ) from None


def _encode(text: str, tokenizer: "Tokenizer", index: int) -> list[int]:
    try:
        return tokenizer.encode(text)
    except ValueError as error:  # a split pattern of the user's own may give a text up
        raise _bad(f"messages[{index}] cannot be tokenised: {error}", "shorten it") from error


def _turns(conversation: Mapping[str, Any]) -> list[_Turn]:
    """The messages, checked, with the system message merged."""
    messages = conversation.get("messages") if isinstance(conversation, Mapping) else None
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes):
        raise _bad("the conversation has no list of messages", SHAPE)
    turns = [_turn(index, message) for index, message in enumerate(messages)]
    system = turns.pop(0) if turns and turns[0].role == "system" else None
    for place, turn in enumerate(turns):
        expected = ("user", "assistant")[place % 2]
        if turn.role != expected:
            raise _bad(
                f"messages[{turn.index}] has role {turn.role!r} where {expected!r} must follow",
                'users and assistants take turns, a user begins; only messages[0] may have role "system"',
            )
    if not turns:
        raise _bad("the conversation has no message of a user", SHAPE)
    if system is not None:
        text = "\n\n".join(filter(None, (text for _, text in (*system.parts, *turns[0].parts))))
        turns[0] = _Turn("user", [("text", text)], turns[0].index)
    return turns


def _turn(index: int, message: Any) -> _Turn:
    if not isinstance(message, Mapping):
        raise _bad(f"messages[{index}] is {_kind(message)}, not a table", SHAPE)
    role = message.get("role")
    if role not in ("system", "user", "assistant"):
        raise _bad(
            f"messages[{index}] has role {reprlib.repr(role)}",
            "valid roles: user, assistant, and system for messages[0]",
        )
    parts = _parts(index, role, message.get("content"))
    try:
        "".join(text for _, text in parts).encode()
    except UnicodeEncodeError as error:
        raise _bad(f"messages[{index}] is no valid Unicode: {error}", "replace halves of surrogate pairs") from error
    if role != "assistant":
        # One text, encoded as one: parts of a user are no more than how a client happened to send it.
        parts = [("text", "".join(text for _, text in parts))]
    if role == "user" and not parts[0][1]:
        raise _bad(f"messages[{index}] of the user is empty", "give its content some text")
    return _Turn(role, parts, index, message.get("content"))


def _parts(index: int, role: str, content: Any) -> list[tuple[str, str]]:
    if isinstance(content, str):
        return [("text", content)]
    if not isinstance(content, Sequence) or isinstance(content, bytes) or not content:
        raise _bad(f"messages[{index}] has {_kind(content)} as content", "valid: a string, or a list of parts")
    valid = PART_TYPES if role == "assistant" else PART_TYPES[:1]
    parts = []
    for number, part in enumerate(content):
        type_, text = (part.get("type"), part.get("text")) if isinstance(part, Mapping) else (None, None)
        if not isinstance(type_, str) or type_ not in valid or not isinstance(text, str):
            raise _bad(
                f"messages[{index}].content[{number}] is no part that the role {role!r} may have: {reprlib.repr(part)}",
                f'valid: {{"type": …, "text": "…"}} with type {" or ".join(valid)}',
            )
        tool = part.get("tool")
        if tool is not None and (type_ != "python" or not isinstance(tool, str) or tool in NO_TOOLS):
            raise _bad(
                f"messages[{index}].content[{number}] has tool {reprlib.repr(tool)}",
                'a part of type python may name its tool: {"type": "python", "tool": "search", "text": "…"}',
            )
        parts.append((type_ if tool is None else tool, text))
    return parts


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    return f"an empty {type(value).__name__}" if value in ([], ()) else f"a value of type {type(value).__name__}"


def _bad(message: str, help: str) -> InputError:
    return wrong_input("E306", message, help=help)
