"""Configuration of the tokenizer stage."""

from typing import Any, ClassVar

from nanochat.config import components, config, option
from nanochat.stages.slots import EvalSlot, SourceSlot
from nanochat.text.special import IMPLEMENTATIONS, SPLIT_PATTERN, Implementation


@config
class TokenizerConfig:
    """Train a byte-pair encoding on text, which cuts text into tokens. Every recipe that pretrains begins with one; it
    needs no GPU.
    """

    produces: ClassVar[str] = "tokenizer"
    numeric: ClassVar[bool] = False

    vocab_size: int = option(32_768, minimum=265, maximum=2**24, doc="ids: 256 bytes, the merges, and 9 specials")
    max_chars: int = option(2_000_000_000, minimum=1, maximum=10**15, doc="characters to train on")
    max_document_chars: int = option(10_000, minimum=1, maximum=10**12, doc="characters taken from one document")
    pattern: str = option(SPLIT_PATTERN, doc="the regular expression that cuts text before merging")
    implementation: Implementation = option(
        "rust",
        choices=IMPLEMENTATIONS,
        doc="what trains and encodes: rust (ours), huggingface (tokenizers), or tiktoken with ours to train",
    )
    data: dict[str, Any] = components("source", slot=SourceSlot, doc="the text")
    evals: dict[str, Any] = components(
        "eval", slot=EvalSlot, optional=True, doc="what is measured at its end: evaluations that need no model"
    )
