"""Text as it is generated: ids come one by one, a token may end in the middle of a character, and none is ever split.

In: ids. Out: the text that has become certain with each. Not here: which ids a reader should see.
"""

import codecs

from nanochat.text.tokenizer import Tokenizer


class TextStream:
    """What all calls give, joined, is `tokenizer.decode` of all ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: int) -> str:
        """The text that is complete with this id; empty in the middle of a character."""
        return self._decoder.decode(self._tokenizer.decode_bytes([id]))

    def flush(self) -> str:
        """The end: what is left of a character that was never completed is U+FFFD. The stream can be used anew."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text
