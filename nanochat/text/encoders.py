"""Encoding by one of three packages: our own crate, tiktoken, or Hugging Face's tokenizers.

In: a vocabulary, which names the one. Out: ids. Ours and tiktoken's are the same for every vocabulary: tiktoken is what
ours is checked against. Hugging Face's applies the merges as they were made instead of looking bytes up. Not here:
special tokens, which no text becomes.
"""

from collections.abc import Sequence
from importlib import import_module
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nanochat._rustbpe import Encoder
from nanochat.errors import wrong_input
from nanochat.text.byte_level import byte_level
from nanochat.text.panic import panics_told
from nanochat.text.vocabulary_file import Vocabulary

if TYPE_CHECKING:
    import tiktoken
    import tokenizers

Ids = NDArray[np.unsignedinteger[Any]]
"""The ids of a text, (n,): uint16 where the vocabulary has at most 65,536 tokens, else uint32."""


class TextEncoder(Protocol):
    """What each of them does. Safe to use from several threads. Unusable (a ValueError) where a text cannot be cut."""

    def encode(self, text: str) -> list[int]: ...

    def encode_batch(self, texts: Sequence[str], threads: int) -> list[Ids]: ...


def make_encoder(vocabulary: Vocabulary) -> TextEncoder:
    """The encoder that a vocabulary names. ValueError where it cannot use it; InputError E308 without its package."""
    known: dict[str, type[_Rust | _Tiktoken | _HuggingFace]] = {
        "rust": _Rust,
        "tiktoken": _Tiktoken,
        "huggingface": _HuggingFace,
    }
    if vocabulary.implementation not in known:
        raise ValueError(f"its implementation is {vocabulary.implementation!r}, and there are {', '.join(known)}")
    return known[vocabulary.implementation](vocabulary)


def needed(package: str) -> Any:
    """A package that only those need who choose it. InputError E308 where it is missing."""
    try:
        return import_module(package)
    except ImportError as error:
        raise wrong_input(
            "E308",
            f"the tokenizer needs the package {package}, which is not installed here",
            help="install it: pip install 'nanochat-run[tokenizers]'; or train with `implementation = \"rust\"`",
        ) from error


class _Rust:
    def __init__(self, vocabulary: Vocabulary) -> None:
        self._encoder = Encoder(vocabulary.pattern, vocabulary.tokens)

    def encode(self, text: str) -> list[int]:
        return self._encoder.encode(text)

    def encode_batch(self, texts: Sequence[str], threads: int) -> list[Ids]:
        """Each text's ids are a view of the batch's."""
        content, lengths = self._encoder.encode_batch(texts, threads)
        ids = np.frombuffer(content, dtype=_id_type(self._encoder.id_bytes))
        return [ids[start:end] for start, end in pairwise(accumulate(lengths, initial=0))]


class _Tiktoken:
    def __init__(self, vocabulary: Vocabulary) -> None:
        _checked(vocabulary)
        ranks = {token: rank for rank, token in enumerate(vocabulary.tokens)}
        package = needed("tiktoken")
        self._encoding: tiktoken.Encoding = package.Encoding(
            "nanochat", pat_str=vocabulary.pattern, mergeable_ranks=ranks, special_tokens={}
        )
        self._dtype = _id_type(2 if len(ranks) <= 1 << 16 else 4)

    def encode(self, text: str) -> list[int]:
        text.encode()  # tiktoken would replace half of a surrogate pair without a word
        with panics_told():
            return self._encoding.encode_ordinary(text)

    def encode_batch(self, texts: Sequence[str], threads: int) -> list[Ids]:
        for text in texts:
            text.encode()
        with panics_told():
            found = self._encoding.encode_ordinary_batch(list(texts), num_threads=threads)
        return [np.array(ids, dtype=self._dtype) for ids in found]


class _HuggingFace:
    def __init__(self, vocabulary: Vocabulary) -> None:
        _checked(vocabulary)
        self._tokenizer: tokenizers.Tokenizer = byte_level(needed("tokenizers"), vocabulary)
        self._dtype = _id_type(2 if len(vocabulary.tokens) <= 1 << 16 else 4)

    def encode(self, text: str) -> list[int]:
        text.encode()
        with panics_told():
            return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str], threads: int) -> list[Ids]:
        """The package has threads of its own, as many as RAYON_NUM_THREADS says; only 1 is heeded."""
        if threads == 1:
            return [np.array(self.encode(text), dtype=self._dtype) for text in texts]
        for text in texts:
            text.encode()
        with panics_told():
            found = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=self._dtype) for encoding in found]


def _checked(vocabulary: Vocabulary) -> None:
    """ValueError where the tokens are no vocabulary: the packages would say so late, or not at all."""
    Encoder(vocabulary.pattern, vocabulary.tokens)


def _id_type(size: int) -> "np.dtype[Any]":
    return np.dtype(np.uint16 if size == 2 else np.uint32)
