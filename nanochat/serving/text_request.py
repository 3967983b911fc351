"""The prompts of a text completion: texts or token ids, one or several.

In: a request's `prompt`. Out: ids that begin with <|bos|>. Ids of other special tokens are refused: with them a client
could write what only the server may, a tool's result or another one's turn.
"""

from typing import Any

import attrs

from nanochat.serving.faults import RequestError
from nanochat.text.tokenizer import Tokenizer

MOST_PROMPTS = 128


@attrs.frozen
class Text:
    """One prompt: its ids, how many of them the server put before it, and how it reads."""

    ids: list[int]
    added: int
    text: str


def texts_of(prompt: Any, tokenizer: Tokenizer) -> list[Text]:
    """The prompts. RequestError 400 for anything that is none."""
    alone = isinstance(prompt, str) or (isinstance(prompt, list) and prompt and type(prompt[0]) is int)
    prompts = [prompt] if alone else prompt
    if not isinstance(prompts, list) or not 1 <= len(prompts) <= MOST_PROMPTS:
        raise _wrong(f"must be a text, a list of token ids, or a list of 1 to {MOST_PROMPTS} of either")
    return [_text(each, tokenizer) for each in prompts]


def _text(prompt: Any, tokenizer: Tokenizer) -> Text:
    if isinstance(prompt, str):
        try:
            return Text([tokenizer.bos_id, *tokenizer.encode(prompt)], 1, prompt)
        except ValueError as fault:
            raise _wrong(f"cannot be tokenised: {fault}") from fault
    if not isinstance(prompt, list) or not prompt or not all(type(token) is int for token in prompt):
        raise _wrong("must hold texts, or lists of token ids that are not empty")
    added = int(prompt[0] != tokenizer.bos_id)
    ids = [tokenizer.bos_id] * added + prompt
    ordinary = tokenizer.vocab_size - len(tokenizer.vocabulary.specials)
    if wrong := [token for token in ids[1:] if not 0 <= token < ordinary]:
        raise _wrong(f"holds the id {wrong[0]}; valid are 0 to {ordinary - 1}, and <|bos|> as the first")
    return Text(ids, added, tokenizer.decode(ids[added:]))


def _wrong(what: str) -> RequestError:
    return RequestError(400, f"`prompt` {what}"[:300], param="prompt")
