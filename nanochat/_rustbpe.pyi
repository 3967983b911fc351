"""The Rust crate in rustbpe/, built by maturin. Every text that is no valid Unicode raises UnicodeEncodeError."""

from collections.abc import Callable, Iterable, Sequence

class Unusable(ValueError):
    """A pattern that is none or cannot cut a text, or tokens that are no vocabulary."""

class Trainer:
    """Counts the pieces of texts, then merges them into tokens."""

    def __init__(self, pattern: str) -> None:
        """Unusable where the pattern cannot be compiled."""

    def feed(self, texts: Iterable[str]) -> None:
        """Read texts to the end, in batches, and count their pieces without Python's lock.

        Unusable where the pattern cannot cut one of them.
        """

    @property
    def distinct_pieces(self) -> int:
        """What memory grows with."""

    @property
    def bytes_left_out(self) -> int:
        """Bytes of the texts that the pattern matched nowhere."""

    def train(self, merges: int, progress: Callable[[int], object] | None = None) -> list[bytes]:
        """Make at most so many merges; all tokens, bytes first, in the order of their ids. Fewer where no pair is left.

        `progress` is called with the merges made, now and then; what it raises ends the work.
        """

class Encoder:
    """Text to ids. Safe to use from several Python threads."""

    def __init__(self, pattern: str, tokens: Sequence[bytes]) -> None:
        """`tokens` in the order of their ids. Unusable where a byte is missing, or a token empty or twice there."""

    def encode(self, text: str) -> list[int]:
        """Unusable where the pattern cannot cut the text; so in a batch."""

    def encode_batch(self, texts: Sequence[str], threads: int | None = None) -> tuple[bytearray, list[int]]:
        """The ids of the texts one behind the other, `id_bytes` each in the machine's order; how many each text has.

        threads None: one a processor.
        """

    @property
    def id_bytes(self) -> int:
        """2 where the vocabulary has at most 65,536 tokens, else 4."""

class WordCounter:
    """Counts runs of 3 to 12 lower-case ASCII letters that stand alone."""

    def __init__(self, joins: bytes) -> None:
        """`joins`: for each code point a byte, 1 where letters beside it are no word. What is beyond does not join."""

    def add(self, text: str) -> None:
        """Count the words of a text, without Python's lock."""

    def words(self) -> list[tuple[str, int]]:
        """The words and how often each occurred, in no particular order."""
