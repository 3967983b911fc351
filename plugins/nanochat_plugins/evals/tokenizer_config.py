"""Configuration of `tokenizer`."""

from typing import ClassVar

from nanochat.config import config, option


@config
class TokenizerEvalConfig:
    """Bytes a token on news, code, maths, sixteen languages and science, and on the stage's own text, beside GPT-2's
    and GPT-4's vocabularies. Take it in a tokenizer stage to see what a vocabulary is good at; it needs no model.
    """

    needs_model: ClassVar[bool] = False

    rivals: list[str] = option(
        ["gpt2", "cl100k_base"],
        choices=("gpt2", "cl100k_base"),
        doc="vocabularies to compare with: those that tiktoken has on this machine; where it has none, our own "
        "training with their split patterns, at this vocabulary's size",
    )
    sample_chars: int = option(
        2_000_000, minimum=1, maximum=10**12, doc="characters measured of each split of the stage's sources"
    )
    peer_chars: int = option(
        20_000_000, minimum=1, maximum=10**12, doc="characters that a rival is trained on, where one is"
    )
