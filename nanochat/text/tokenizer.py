"""The tokenizer: text to ids and back, over a vocabulary that is trained here.

In: text and ids. Out: ids and text. Ids are the 256 bytes, the merges in the order in which they were made, and the
specials. `encode` never gives a special: text that spells one is ordinary text, and only `text/conversation.py` puts
specials in. Not here: the packages that train and encode (`training.py`, `encoders.py`), the vocabulary's file
(`vocabulary_file.py`), other programs' files (`formats.py`), incremental decoding (`decoder.py`).
"""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

from nanochat.errors import wrong_input
from nanochat.text.encoders import Ids, make_encoder
from nanochat.text.special import BOS, SPECIAL_TOKENS, SPLIT_PATTERN, Implementation
from nanochat.text.training import train_tokens
from nanochat.text.vocabulary_file import Vocabulary, broken_vocabulary, read_vocabulary

BYTE_TOKENS = 256
MINIMUM_VOCABULARY = BYTE_TOKENS + len(SPECIAL_TOKENS)


class Tokenizer:
    """A vocabulary in use. Never changes once made; safe to share between threads."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """ValueError where the vocabulary's pattern or tokens cannot be used."""
        if missing := [token for token in SPECIAL_TOKENS if token not in vocabulary.specials]:
            raise ValueError(f"there is no {missing[0]} among the specials")
        self._vocabulary = vocabulary
        self._encoder = make_encoder(vocabulary)
        first_special = len(vocabulary.tokens)
        self._specials = {token: first_special + place for place, token in enumerate(vocabulary.specials)}
        self._bytes = (*vocabulary.tokens, *(token.encode() for token in vocabulary.specials))

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        vocab_size: int,
        pattern: str = SPLIT_PATTERN,
        implementation: Implementation = "rust",
        more_specials: Sequence[str] = (),
        progress: Callable[[int], object] | None = None,
    ) -> Self:
        """Learn a vocabulary of exactly `vocab_size` ids from texts, which are read once, in batches.

        `more_specials` come before the nine, whose ids are the last ones in every vocabulary.
        `progress` is called with the merges made so far; what it raises ends the training. Raises InputError: E104
        for a pattern that is none or that loses text, E305 for a size that is too small or that the texts cannot
        fill, E302 for no text, E308 where the implementation's package is not installed.
        """
        specials = (*more_specials, *SPECIAL_TOKENS)
        least = BYTE_TOKENS + len(specials)
        if vocab_size < least:
            raise wrong_input(
                "E305",
                f"vocab_size is {vocab_size}, and {BYTE_TOKENS} bytes and {len(specials)} specials are in every "
                f"vocabulary",
                help=f"use at least {least}; 2,048 to 65,536 are usual",
            )
        merges = vocab_size - least
        tokens = train_tokens(texts, merges=merges, pattern=pattern, implementation=implementation, progress=progress)
        possible = len(tokens) - BYTE_TOKENS
        if possible < merges:
            raise wrong_input(
                "E305",
                f"vocab_size is {vocab_size}, which takes {merges} merges, and the text allows only {possible}",
                help=f"lower vocab_size to at most {possible + least}, or give more text",
            )
        made = Vocabulary(pattern=pattern, tokens=tuple(tokens), specials=specials, implementation=implementation)
        return cls(made)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read folder/tokenizer.json. InputError E307 where it is missing, damaged or of another format."""
        vocabulary = read_vocabulary(folder)
        try:
            return cls(vocabulary)
        except (ValueError, TypeError) as error:
            raise broken_vocabulary(folder, f"holds no usable vocabulary: {error}") from error

    def __reduce__(self) -> tuple[type[Self], tuple[Vocabulary]]:
        """As it is made: another process's encoder is its own."""
        return type(self), (self._vocabulary,)

    def save(self, folder: Path) -> None:
        """Write folder/tokenizer.json, whole or not at all."""
        self._vocabulary.write(folder)

    @property
    def vocabulary(self) -> Vocabulary:
        """What it was made from."""
        return self._vocabulary

    @property
    def vocab_size(self) -> int:
        """The number of ids, specials included."""
        return len(self._bytes)

    @property
    def special_tokens(self) -> Sequence[str]:
        """All specials, in the order of their ids."""
        return self._vocabulary.specials

    @property
    def bos_id(self) -> int:
        """The id of <|bos|>, which begins every document."""
        return self._specials[BOS]

    @cached_property
    def digest(self) -> str:
        """sha256, in hex, of the vocabulary file's content."""
        return self._vocabulary.digest

    def encode(self, text: str) -> list[int]:
        """The ids of a text, never a special's. UnicodeEncodeError where the text holds half of a surrogate pair.

        Unusable, a ValueError as well, where a pattern of the user's own cannot cut the text.
        """
        return self._encoder.encode(text)

    def encode_batch(self, texts: Sequence[str], *, threads: int | None = None) -> list[Ids]:
        """As `encode` on each text, as arrays, on so many threads; None: this process's share of the processors."""
        return self._encoder.encode_batch(texts, _own_processors() if threads is None else threads)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes of ids; a special's are its name. ValueError for an id that the vocabulary does not have."""
        size = len(self._bytes)
        if ids and (min(ids) < 0 or max(ids) >= size):
            raise ValueError(f"ids from {min(ids)} to {max(ids)}, where the vocabulary has 0 to {size - 1}")
        return b"".join([self._bytes[number] for number in ids])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bytes that are no UTF-8 (half of a character, say) become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def token_bytes(self) -> list[int]:
        """How many bytes of text each id stands for; 0 for specials."""
        return [len(token) for token in self._vocabulary.tokens] + [0] * len(self._specials)

    def special_id(self, token: str) -> int:
        """The id of a special. KeyError where there is none of this name."""
        return self._specials[token]


def _own_processors() -> int:
    """Those that this process may use, shared among the processes that torchrun started beside it."""
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, usable // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
