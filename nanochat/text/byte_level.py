"""Hugging Face's byte-level BPE: a vocabulary of ours as theirs and back, and training by their package.

Their tokens are spelled with GPT-2's letters, one for each byte, and a vocabulary is a list of merges. In: vocabularies
and texts. Out: tokenizers of their package (which the caller has imported), and tokens as bytes. Not here: their file
(formats.py).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from nanochat._rustbpe import Unusable
from nanochat.text.panic import panics_told
from nanochat.text.vocabulary_file import Vocabulary

BYTES = 256

Merge = tuple[bytes, bytes]


def _letters() -> list[str]:
    """GPT-2's letter for each byte: itself where it can be seen, else the next one from U+0100 on."""
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(BYTES) if byte not in seen]
    return [chr(byte) if byte in seen else chr(BYTES + hidden.index(byte)) for byte in range(BYTES)]


LETTERS = _letters()
_BYTES = {letter: byte for byte, letter in enumerate(LETTERS)}


def spelled(token: bytes) -> str:
    """A token in GPT-2's letters."""
    return "".join(LETTERS[byte] for byte in token)


def unspelled(spelling: str) -> bytes:
    """The bytes of a token in GPT-2's letters. ValueError for another letter."""
    if unknown := [letter for letter in spelling if letter not in _BYTES]:
        raise ValueError(f"{unknown[0]!r} is no letter of a byte")
    return bytes(_BYTES[letter] for letter in spelling)


def merges_of(tokens: Sequence[bytes]) -> list[Merge]:
    """The two tokens that each token is merged from, in the order of the ids.

    They are what its bytes become when they are merged by the smallest id until two are left. A token that is never
    reached so is left out; a piece of text that is the token whole is it all the same.
    """
    ranks = {token: rank for rank, token in enumerate(tokens)}
    parts = [_parts(token, ranks) for token in tokens if len(token) > 1]
    return [(found[0], found[1]) for found in parts if len(found) == 2]


def _parts(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    pieces = [token[place : place + 1] for place in range(len(token))]
    while len(pieces) > 2:
        made = [ranks.get(left + right, len(ranks)) for left, right in pairwise(pieces)]
        smallest = min(made)
        if smallest >= ranks[token]:
            break
        place = made.index(smallest)
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
    return pieces


def byte_level(tokenizers: Any, vocabulary: Vocabulary) -> Any:
    """A `tokenizers.Tokenizer` of the same ids, without specials. Unusable for a pattern that it cannot compile."""
    model = tokenizers.models.BPE(
        vocab={spelled(token): rank for rank, token in enumerate(vocabulary.tokens)},
        merges=[(spelled(left), spelled(right)) for left, right in merges_of(vocabulary.tokens)],
        ignore_merges=True,  # a piece that is a token is that token, as with us
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = _pieces(tokenizers, vocabulary.pattern)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return tokenizer


def train_byte_level(
    tokenizers: Any, texts: Iterable[str], merges: int, pattern: str, progress: Callable[[int], object] | None
) -> list[bytes]:
    """Learn at most so many merges; the bytes, then the tokens made, in the order of their ids.

    `progress` is called before and after the merges only. Unusable for a pattern that is none or cannot cut a text.
    """
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = _pieces(tokenizers, pattern)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=BYTES + merges, initial_alphabet=list(LETTERS), show_progress=False
    )
    with panics_told():
        tokenizer.train_from_iterator(_ended(texts, progress), trainer)
    ids: dict[str, int] = tokenizer.get_vocab()
    made = sorted((spelling for spelling in ids if len(spelling) > 1), key=lambda spelling: ids[spelling])
    if progress is not None:
        progress(len(made))
    return [bytes([byte]) for byte in range(BYTES)] + [unspelled(spelling) for spelling in made]


def _ended(texts: Iterable[str], progress: Callable[[int], object] | None) -> Iterator[str]:
    yield from texts
    if progress is not None:
        progress(0)


def _pieces(tokenizers: Any, pattern: str) -> Any:
    """Cut by the pattern, then spell. Unusable for a pattern that cannot be compiled."""
    try:
        regex = tokenizers.Regex(pattern)
    except Exception as error:  # the package raises nothing more exact
        raise Unusable(f"the split pattern cannot be compiled: {error}") from error
    split = tokenizers.pre_tokenizers.Split(regex, behavior="isolated")
    return tokenizers.pre_tokenizers.Sequence(
        [split, tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
