"""From a source's texts to ids: which texts can be trained on, and what a document is to a model.

In: texts and a tokenizer. Out: ids, BOS first. Not here: which text comes when.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nanochat._rustbpe import Unusable
from nanochat.data.packing import Ids
from nanochat.errors import wrong_input

BATCH_DOCUMENTS = 64
"""Documents tokenised in one call, so that the encoder can share them out to threads."""
BATCH_CHARS = 1_000_000
"""Or fewer, where they are long."""


class Encoder(Protocol):
    """What is used of the tokenizer."""

    @property
    def bos_id(self) -> int: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def digest(self) -> str: ...

    def encode_batch(self, texts: Sequence[str]) -> Sequence[Sequence[int] | NDArray[np.unsignedinteger]]: ...


def unusable(text: str) -> str | None:
    """Why a text cannot be trained on; None where it can."""
    if not text:
        return "empty"
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, as JSON can spell it
        return "not UTF-8"
    return None


def encode_documents(encoder: Encoder, texts: Sequence[str]) -> list[Ids]:
    """The ids of texts, BOS first. InputError E104 where the tokenizer's pattern cannot cut one of them."""
    try:
        found = encoder.encode_batch(texts)
    except Unusable as fault:
        raise wrong_input(
            "E104",
            f"the tokenizer cannot encode a document: {fault}",
            help="train it with another `pattern`, or with GPT-4's, which is the default",
        ) from fault
    return [_with_bos(encoder.bos_id, ids) for ids in found]


def _with_bos(bos: int, ids: Sequence[int] | NDArray[np.unsignedinteger]) -> Ids:
    document = np.empty(len(ids) + 1, dtype=np.uint32)
    document[0] = bos
    document[1:] = ids
    return document
