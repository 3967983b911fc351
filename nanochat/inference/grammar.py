"""Which special tokens a model may write in which state: what makes a forged tool result or a foreign turn impossible.

In: a tokenizer and the tools of a model. Out: for each state the bar on forbidden ids, the ids that end an answer, the
calls that special tokens begin. Plain text (a prompt that is no conversation) ends with the next document's <|bos|>.
"""

from collections.abc import Sequence

import attrs
import torch
from torch import Tensor

from nanochat.errors import wrong_input
from nanochat.inference.tool import Tool
from nanochat.inference.transfer import on_device
from nanochat.text.special import ASSISTANT_END, ASSISTANT_START, OUTPUT_END, OUTPUT_START, called_by
from nanochat.text.tokenizer import Tokenizer

PLAIN, TEXT = 0, 1
"""States: outside any conversation; an answer's text. Above them one state for each call, inside its expression."""


@attrs.frozen(kw_only=True)
class Call:
    """A pair of special tokens, and the tools that answer to it, asked in turn."""

    state: int
    name: str
    """What its tokens are called after: `python`, or the name of a tool that has tokens of its own."""
    start: int
    end: int
    tools: Sequence[Tool]


class Grammar:
    """The special tokens' rules, for one tokenizer and its tools. InputError E307 where it lacks a tool's tokens."""

    def __init__(self, tokenizer: Tokenizer, tools: Sequence[Tool], *, vocab_size: int, device: torch.device) -> None:
        special = tokenizer.special_id
        self.answer_start = special(ASSISTANT_START)
        self.output_start, self.output_end = special(OUTPUT_START), special(OUTPUT_END)
        refuse_tools(tools, tokenizer)
        pairs = list(dict.fromkeys((tool.start, tool.end) for tool in tools))
        self.calls = [
            Call(
                state=TEXT + 1 + index,
                name=called_by(start),
                start=special(start),
                end=special(end),
                tools=[tool for tool in tools if (tool.start, tool.end) == (start, end)],
            )
            for index, (start, end) in enumerate(pairs)
        ]
        answer_end = special(ASSISTANT_END)
        self.ends = frozenset({tokenizer.bos_id, answer_end})
        allowed = [{tokenizer.bos_id}, {answer_end, *(call.start for call in self.calls)}]
        allowed += [{answer_end, call.end} for call in self.calls]
        every = [special(token) for token in tokenizer.special_tokens]
        bars = torch.zeros(2, len(allowed), vocab_size)
        bars[:, :, every] = -torch.inf
        # A model may have more rows than the tokenizer has tokens.
        bars[:, :, tokenizer.vocab_size :] = -torch.inf
        for state, ids in enumerate(allowed):
            bars[:, state, list(ids)] = 0
        bars[1, :, sorted(self.ends)] = -torch.inf
        self._bars = bars.to(device)
        """(2, states, V): 0, or −∞ for what the state does not allow; in the second half nothing ends an answer."""

    def barred(self, states: Sequence[int], endless: Sequence[bool]) -> Tensor:
        """(B, V), or (1, V) where all rows are alike: 0, or −∞ for what a row in its state may not write."""
        kinds = list(zip(map(int, endless), states, strict=True))
        if len(set(kinds)) == 1:
            return self._bars[kinds[0]][None]
        halves, places = on_device(list(zip(*kinds, strict=True)), self._bars.device)
        return self._bars[halves, places]

    def first_state(self, prompt: Sequence[int]) -> int:
        """TEXT in a conversation, PLAIN elsewhere. Text cannot spell the token that decides it."""
        return TEXT if self.answer_start in prompt else PLAIN

    def begun_by(self, token: int) -> Call | None:
        """The call that a token begins."""
        return next((call for call in self.calls if call.start == token), None)


def refuse_tools(tools: Sequence[Tool], tokenizer: Tokenizer) -> None:
    """InputError E307 where a tool is called by tokens that the tokenizer does not have."""
    for tool in tools:
        for token in (tool.start, tool.end):
            if token not in tokenizer.special_tokens:
                raise wrong_input(
                    "E307",
                    f"the tool `{tool.name}` is called by {token}, which the tokenizer does not have",
                    help=f'train a tokenizer with special_tokens = ["{tool.start}", "{tool.end}"]',
                )
