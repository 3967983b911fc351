"""Training: texts → the tokens of a vocabulary, by our own crate or by Hugging Face's package.

Out: the 256 bytes, then the tokens in the order in which they were made. Not here: specials, files.
"""

from collections.abc import Callable, Iterable, Iterator

from nanochat._rustbpe import Trainer, Unusable
from nanochat.errors import InputError, wrong_input
from nanochat.text.byte_level import train_byte_level
from nanochat.text.encoders import needed
from nanochat.text.special import Implementation

Progress = Callable[[int], object]


def train_tokens(
    texts: Iterable[str],
    *,
    merges: int,
    pattern: str,
    implementation: Implementation,
    progress: Progress | None,
) -> list[bytes]:
    """At most so many merges of texts, which are read once. tiktoken has no training: ours gives it its tokens.

    Raises InputError: E104 for a pattern that is none, loses text or cannot cut it, E302 for no text, E308 for no
    package.
    """
    if implementation == "huggingface":
        return _by_tokenizers(texts, merges, pattern, progress)
    return _by_rust(texts, merges, pattern, progress)


def _by_rust(texts: Iterable[str], merges: int, pattern: str, progress: Progress | None) -> list[bytes]:
    try:
        trainer = Trainer(pattern)
        trainer.feed(texts)
    except Unusable as error:
        raise _bad_pattern(error) from error
    if trainer.bytes_left_out:
        raise wrong_input(
            "E104",
            f"the split pattern does not match {trainer.bytes_left_out:,} bytes of the text, which would be lost",
            help=r"let the pattern end with `|[\s\S]`, so that it matches whatever is left",
        )
    if not trainer.distinct_pieces:
        raise _no_text()
    return trainer.train(merges, progress)


def _by_tokenizers(texts: Iterable[str], merges: int, pattern: str, progress: Progress | None) -> list[bytes]:
    """Text that the pattern does not match is a piece of its own there, so none is lost."""
    characters = 0

    def counted() -> Iterator[str]:
        nonlocal characters
        for text in texts:
            characters += len(text)
            yield text

    try:
        tokens = train_byte_level(needed("tokenizers"), counted(), merges, pattern, progress)
    except Unusable as error:
        raise _bad_pattern(error) from error
    if not characters:
        raise _no_text()
    return tokens


def _bad_pattern(error: Unusable) -> InputError:
    return wrong_input("E104", str(error), help="change `pattern`, or leave it out for GPT-4's")


def _no_text() -> InputError:
    return wrong_input(
        "E302",
        "there is no text to train a tokenizer on",
        help="check the sources under `data`: their paths, their text column, and max_chars",
    )
