"""What OpenAI's clients send as a conversation, as nanochat's own messages.

In: a request's `messages`. Out: messages that `nanochat.text.conversation` checks further and renders. An assistant's
content may be the `parts` of an earlier answer: text, python, python_output. Nobody else can write those.
"""

from collections.abc import Mapping
from typing import Any

from nanochat.serving.faults import RequestError


def messages_of(given: Any) -> list[Any]:
    """The messages. RequestError 400 where the last is not the user's."""
    if not isinstance(given, list) or not given:
        raise RequestError(400, "`messages` must be a list of at least one message", param="messages")
    messages = [_message(message) if isinstance(message, dict) else message for message in given]
    if not isinstance(messages[-1], dict) or messages[-1].get("role") != "user":
        raise RequestError(400, "the last message must be the user's", param="messages")
    return messages


def _message(given: Mapping[str, Any]) -> dict[str, Any]:
    role, content = given.get("role"), given.get("content")
    return {
        "role": "system" if role == "developer" else role,
        "content": "" if content is None and role == "assistant" else content,
    }
