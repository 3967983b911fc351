"""Configuration of `bpb`."""

from typing import ClassVar

from nanochat.config import config, option


@config
class BpbConfig:
    """Bits per byte on the validation split of the stage's sources: how well text is foretold, lower is better. Take it
    for pretraining; unlike a loss it can be compared between tokenizers.
    """

    needs_sources: ClassVar[bool] = True

    tokens: int = option(80 * 2**19, minimum=1, maximum=10**13, doc="how many, shared equally by the sources")
    rows: int = option(32, minimum=1, maximum=1_000_000, execution=True, doc="rows computed at once")

    def forward_tokens(self) -> int:
        """Tokens that one evaluation computes."""
        return self.tokens
