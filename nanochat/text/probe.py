"""Short texts of all sorts, which show whether a vocabulary from elsewhere encodes here, and as it does there.

In: a vocabulary, and a tokenizer of Hugging Face's package. Out: a reason to refuse it, or None. That a pattern loses
no text at all cannot be shown by texts; that it loses characters, line ends or spaces, as those do that are written for
words only, can. Not here: reading files (formats.py).
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from nanochat.text.encoders import TextEncoder, make_encoder
from nanochat.text.vocabulary_file import Vocabulary

SORTS = "aZsé7²Ⅷ४ßǅʼ汉あंा\u0301\u20dd' \t\n\r\v\u00a0\u2028\u2029\u3000_-()«»!$+^©😀\x00\u200d\ue000"
"""Characters of all general categories, and those that patterns name."""
SENTENCES = (
    "It's 12,345.67 — they'LL say   \"so\"!\n\n\n  def f(x):\n\t\treturn x**2  # größer\r\n ",
    "  \n \n  x 1234567890 \t 'tis ... !!!\n",
)
BLOCK = 256
THREADS = 1


def fault(vocabulary: Vocabulary) -> str | None:
    """Why a vocabulary cannot be used: its pattern or tokens are none, or the pattern leaves text out."""
    try:
        encoder = make_encoder(vocabulary)
        lost = next(_lost(vocabulary, encoder, [*_every_character(), *_neighbours(), *SENTENCES]), None)
        if lost is not None and len(lost) == BLOCK:
            lost = next(_lost(vocabulary, encoder, list(lost)), lost)
    except ValueError as error:
        return f"cannot be used: {error}"
    return None if lost is None else f"has a split pattern that leaves text out, of {lost!r} for one"


def difference(vocabulary: Vocabulary, peer: Any) -> str | None:
    """What a `tokenizers.Tokenizer` encodes otherwise than we do, without specials; every ASCII token is tried."""
    whole = [token.decode() for token in vocabulary.tokens if token.isascii()]
    texts = [*_neighbours(), *SENTENCES, *whole]
    ours = make_encoder(vocabulary).encode_batch(texts, THREADS)
    theirs = peer.encode_batch_fast(texts, add_special_tokens=False)
    for text, here, there in zip(texts, ours, theirs, strict=True):
        if here.tolist() != there.ids:
            return f"encodes {text!r} as {there.ids} with their package, and here as {here.tolist()}"
    return None


def _lost(vocabulary: Vocabulary, encoder: TextEncoder, texts: list[str]) -> Iterator[str]:
    """The texts whose ids stand for fewer bytes than they have."""
    sizes = np.array([len(token) for token in vocabulary.tokens])
    for text, ids in zip(texts, encoder.encode_batch(texts, THREADS), strict=True):
        if sizes[ids].sum() != len(text.encode()):
            yield text


def _every_character() -> Iterator[str]:
    """All characters that text can hold, in blocks."""
    for first in range(0, 0x110000, BLOCK):
        if not 0xD800 <= first < 0xE000:
            yield "".join(map(chr, range(first, first + BLOCK)))


def _neighbours() -> Iterator[str]:
    """Every sort of character between every two."""
    return map("".join, product(SORTS, repeat=3))
