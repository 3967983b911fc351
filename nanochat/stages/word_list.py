"""words.txt: the words that occur in a text, for tasks that spell and count letters.

In: texts. Out: a file with a line for each word, `word<TAB>count`, most frequent first and equals by the alphabet.
A word is 3 to 12 lower-case ASCII letters with no letter, digit, underscore or apostrophe beside them.
"""

import sys
from functools import cache
from pathlib import Path

from nanochat._rustbpe import WordCounter

FILE_NAME = "words.txt"
MOST_WORDS = 20_000
FEWEST_OCCURRENCES = 2


class WordList:
    """Words and how often each occurred."""

    def __init__(self) -> None:
        self._counter = WordCounter(_joins())

    def add(self, text: str) -> None:
        """Count the words of a text."""
        self._counter.add(text)

    def words(self) -> list[tuple[str, int]]:
        """At most 20,000 words that occurred at least twice, with their counts, in the order of the file."""
        often = [(word, count) for word, count in self._counter.words() if count >= FEWEST_OCCURRENCES]
        return sorted(often, key=lambda entry: (-entry[1], entry[0]))[:MOST_WORDS]

    def write(self, folder: Path) -> None:
        """Write words.txt into a folder."""
        lines = [f"{word}\t{count}\n" for word, count in self.words()]
        (folder / FILE_NAME).write_text("".join(lines), encoding="ascii", newline="\n")


@cache
def _joins() -> bytes:
    """For each code point 1 where a word beside it is none. Letters and digits are Python's, as in its `\\w`."""
    characters = map(chr, range(sys.maxunicode + 1))
    return bytes(character.isalnum() or character in "_'’" for character in characters)
