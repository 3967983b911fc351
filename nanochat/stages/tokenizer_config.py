"""Configuration of the tokenizer stage."""

import re
from typing import Any, ClassVar

from nanochat.config import Problem, components, config, option
from nanochat.stages.slots import EvalSlot, SourceSlot
from nanochat.text.special import IMPLEMENTATIONS, SPECIAL_TOKENS, SPLIT_PATTERN, Implementation

_SPECIAL = re.compile(r"<\|[a-z0-9_]+\|>\Z")


@config
class TokenizerConfig:
    """Train a byte-pair encoding on text, which cuts text into tokens. Every recipe that pretrains begins with one; it
    needs no GPU.
    """

    produces: ClassVar[str] = "tokenizer"
    numeric: ClassVar[bool] = False
    seeded: ClassVar[bool] = False

    vocab_size: int = option(32_768, minimum=265, maximum=2**24, doc="ids: 256 bytes, the merges, and 9 specials")
    max_chars: int = option(2_000_000_000, minimum=1, maximum=10**15, doc="characters to train on")
    max_document_chars: int = option(10_000, minimum=1, maximum=10**12, doc="characters taken from one document")
    pattern: str = option(SPLIT_PATTERN, doc="the regular expression that cuts text before merging")
    implementation: Implementation = option(
        "rust",
        choices=IMPLEMENTATIONS,
        doc="what trains and encodes: rust (ours), huggingface (tokenizers), or tiktoken with ours to train",
    )
    special_tokens: list[str] = option(
        [], doc="more specials, before the 9: those that call a tool of your own, <|search_start|> and <|search_end|>"
    )
    data: dict[str, Any] = components("source", slot=SourceSlot, doc="the text")
    evals: dict[str, Any] = components(
        "eval", slot=EvalSlot, optional=True, doc="what is measured at its end: evaluations that need no model"
    )

    def problems(self) -> list[Problem]:
        """What does not fit together."""
        found: list[Problem] = []
        for place, token in enumerate(self.special_tokens):
            if not _SPECIAL.match(token):
                found.append(("special_tokens", f"a special is written as <|name|>, in small letters, not `{token}`"))
            elif token in SPECIAL_TOKENS or token in self.special_tokens[:place]:
                found.append(("special_tokens", f"leave `{token}` out: the vocabulary has it already"))
        least = 256 + len(SPECIAL_TOKENS) + len(self.special_tokens)
        if self.vocab_size < least:
            found.append(("vocab_size", f"vocab_size must be {least} at least, for the bytes and the specials"))
        return found
