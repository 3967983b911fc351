"""Rendering of conversations: which ids, and which of them the assistant wrote."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.errors import InputError
from nanochat.text.conversation import check_conversation, render_conversation, render_prompt
from nanochat.text.special import SPECIAL_TOKENS
from nanochat.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train(["how many r are in strawberry? there are three of them."], vocab_size=290)
SPECIALS = {TOKENIZER.special_id(token) for token in SPECIAL_TOKENS}
TEXTS = st.text(max_size=20) | st.lists(st.sampled_from([*SPECIAL_TOKENS, "how many", " ", "é"])).map("".join)
PARTS = st.fixed_dictionaries({"type": st.sampled_from(["text", "python", "python_output"]), "text": TEXTS})
ANSWERS = TEXTS | st.lists(PARTS, min_size=1, max_size=4)


@st.composite
def conversations(draw: st.DrawFn) -> dict[str, Any]:
    messages = [{"role": "system", "content": draw(TEXTS)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(TEXTS.filter(bool))})
        messages.append({"role": "assistant", "content": draw(ANSWERS)})
    return {"messages": messages[: len(messages) - draw(st.integers(0, 1))]}


def asked(*contents: Any) -> dict[str, Any]:
    """A conversation of a user and an assistant in turn."""
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": content} for n, content in enumerate(contents)]}


def text_of(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def spelled(ids: list[int]) -> str:
    return TOKENIZER.decode(ids)


def written(conversation: dict[str, Any]) -> str:
    rendered = render_conversation(conversation, TOKENIZER)
    return spelled([number for number, mask in zip(rendered.ids, rendered.mask, strict=True) if mask])


def test_a_conversation_with_a_tool_call_is_rendered_as_the_design_says() -> None:
    answer = [
        {"type": "text", "text": "Let me see. "},
        {"type": "python", "text": "2+3"},
        {"type": "python_output", "text": "5"},
        {"type": "text", "text": "It is 5."},
    ]
    rendered = render_conversation(asked("What is 2+3?", answer), TOKENIZER)
    assert spelled(rendered.ids) == (
        "<|bos|><|user_start|>What is 2+3?<|user_end|><|assistant_start|>Let me see. "
        "<|python_start|>2+3<|python_end|><|output_start|>5<|output_end|>It is 5.<|assistant_end|>"
    )
    assert written(asked("What is 2+3?", answer)) == (
        "Let me see. <|python_start|>2+3<|python_end|>It is 5.<|assistant_end|>"
    )
    assert sum(number in SPECIALS for number in rendered.ids) == 9


def test_a_system_message_becomes_the_beginning_of_the_first_user_message() -> None:
    conversation = {"messages": [{"role": "system", "content": "Be kind."}, *asked("Hi", "Hello")["messages"]]}
    assert render_conversation(conversation, TOKENIZER) == render_conversation(
        asked("Be kind.\n\nHi", "Hello"), TOKENIZER
    )


def test_parts_of_a_user_are_one_text() -> None:
    parts = [{"type": "text", "text": "straw"}, {"type": "text", "text": "berry"}]
    assert render_conversation(asked(parts, "3"), TOKENIZER) == render_conversation(asked("strawberry", "3"), TOKENIZER)


@given(conversations())
@settings(deadline=None)
def test_the_mask_covers_exactly_what_the_assistant_writes(conversation: dict[str, Any]) -> None:
    shown = {"text": "{}", "python": "<|python_start|>{}<|python_end|>", "python_output": ""}
    expected = ""
    for message in conversation["messages"]:
        if message["role"] == "assistant":
            content = message["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            expected += "".join(shown[part["type"]].format(part["text"]) for part in parts) + "<|assistant_end|>"
    assert written(conversation) == expected


@given(conversations())
@settings(deadline=None)
def test_ordinary_ids_give_all_texts_back_and_specials_are_only_what_rendering_put_in(
    conversation: dict[str, Any],
) -> None:
    messages = conversation["messages"]
    rendered = render_conversation(conversation, TOKENIZER)
    ordinary = [number for number in rendered.ids if number not in SPECIALS]
    texts = [text_of(message["content"]) for message in messages]
    if messages[0]["role"] == "system" and texts[0]:
        texts[0] += "\n\n"
    assert spelled(ordinary) == "".join(texts)
    tools = sum(p["type"] != "text" for m in messages if not isinstance(m["content"], str) for p in m["content"])
    turns = sum(message["role"] != "system" for message in messages)
    assert len(rendered.ids) - len(ordinary) == 1 + 2 * turns + 2 * tools


@given(conversations())
@settings(deadline=None)
def test_a_prompt_is_the_conversation_up_to_where_the_last_answer_begins(conversation: dict[str, Any]) -> None:
    prompt = render_prompt(conversation, TOKENIZER)
    whole = render_conversation(conversation, TOKENIZER)
    start = TOKENIZER.special_id("<|assistant_start|>")
    if conversation["messages"][-1]["role"] == "user":
        assert prompt == [*whole.ids, start]
    else:
        last = len(whole.ids) - whole.ids[::-1].index(start)
        assert prompt == whole.ids[:last]


USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}


@pytest.mark.parametrize(
    ("conversation", "found", "valid"),
    [
        (None, "the conversation has no list of messages", '{"messages": ['),
        ([USER], "the conversation has no list of messages", '{"messages": ['),
        ({}, "the conversation has no list of messages", '{"messages": ['),
        ({"messages": "hello"}, "the conversation has no list of messages", '{"messages": ['),
        ({"messages": []}, "no message of a user", '{"messages": ['),
        ({"messages": [SYSTEM]}, "no message of a user", '{"messages": ['),
        ({"messages": [USER, "answer"]}, "messages[1] is a value of type str", '{"messages": ['),
        ({"messages": [ASSISTANT]}, "messages[0] has role 'assistant' where 'user' must follow", "take turns"),
        ({"messages": [USER, USER]}, "messages[1] has role 'user' where 'assistant' must follow", "take turns"),
        ({"messages": [SYSTEM, USER, USER]}, "messages[2] has role 'user' where 'assistant'", "take turns"),
        ({"messages": [USER, SYSTEM]}, "messages[1] has role 'system' where 'assistant'", "only messages[0]"),
        ({"messages": [USER, {"role": "tool", "content": "5"}]}, "messages[1] has role 'tool'", "user, assistant"),
        ({"messages": [{"content": "q"}]}, "messages[0] has role None", "user, assistant"),
        ({"messages": [{"role": ["user"], "content": "q"}]}, "messages[0] has role ['user']", "user, assistant"),
        (asked(""), "messages[0] of the user is empty", "some text"),
        (asked("q", None), "messages[1] has nothing as content", "a string, or a list of parts"),
        (asked("q", []), "messages[1] has an empty list as content", "a string, or a list of parts"),
        (asked("q", 5), "messages[1] has a value of type int as content", "a string, or a list of parts"),
        (asked("q", ["a"]), "messages[1].content[0] is no part", "text or python or python_output"),
        (asked("q", [{"type": "image", "text": ""}]), "messages[1].content[0] is no part", "text or python or"),
        (asked("q", [{"type": [], "text": ""}]), "messages[1].content[0] is no part", "text or python or"),
        (asked("q", [{"type": "text"}]), "messages[1].content[0] is no part", "text or python or"),
        (asked([{"type": "python", "text": "1"}]), "messages[0].content[0] is no part", "with type text"),
        (asked("\ud800"), "messages[0] is no valid Unicode", "surrogate"),
        (asked("q", [{"type": "python", "text": "\udfff"}]), "messages[1] is no valid Unicode", "surrogate"),
        (asked("q", ["\ud800"]), "messages[1].content[0] is no part", "text or python or python_output"),
    ],
)
def test_a_bad_conversation_names_the_message_and_what_is_valid(conversation: Any, found: str, valid: str) -> None:
    for look in (render_conversation, render_prompt, lambda conversation, _: check_conversation(conversation)):
        with pytest.raises(InputError) as caught:
            look(conversation, TOKENIZER)
        [diagnostic] = caught.value.diagnostics
        assert diagnostic.code == "E306"
        assert found in diagnostic.message
        assert valid in diagnostic.help


def test_an_answer_may_be_empty_as_a_models_own_may() -> None:
    assert written(asked("q", "")) == "<|assistant_end|>"


def test_what_a_message_of_a_bad_conversation_repeats_is_short_and_can_be_printed() -> None:
    nested: Any = "\ud800" * 10_000
    for _ in range(100_000):
        nested = [nested]
    for bad in (asked("q", [nested]), {"messages": [{"role": nested, "content": "q"}]}):
        with pytest.raises(InputError) as caught:
            check_conversation(bad)
        assert len(caught.value.diagnostics[0].message.encode()) < 300


def test_a_text_that_the_tokenizers_pattern_gives_up_is_a_bad_conversation() -> None:
    stubborn = Tokenizer.train(["ab"], vocab_size=265, pattern=r"(?:(a|aa)+)\1c|[\s\S]")
    with pytest.raises(InputError, match=r"E306.*messages\[0\] cannot be tokenised"):
        render_prompt(asked("a" * 60), stubborn)
