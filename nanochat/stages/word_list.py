"""words.txt: the words that occur in a text, for tasks that spell and count letters.

In: texts. Out: a file with a line for each word, `word<TAB>count`, most frequent first and equals by the alphabet.
A word is 3 to 12 lower-case ASCII letters with no letter, digit, underscore or apostrophe beside them.
"""

import re
from collections import Counter
from pathlib import Path

FILE_NAME = "words.txt"
MOST_WORDS = 20_000
FEWEST_OCCURRENCES = 2
MOST_CHARACTERS = 100_000_000
"""Text that words are counted in: three seconds of work. More would change the order of rare words alone."""

_WORD = re.compile(r"(?<![\w'’])[a-z]{3,12}(?![\w'’])")


class WordList:
    """Words and how often each occurred."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._left = MOST_CHARACTERS

    def add(self, text: str) -> None:
        """Count the words of a text, unless enough text was seen."""
        if self._left > 0:
            self._left -= len(text)
            self._counts.update(_WORD.findall(text))

    def words(self) -> list[tuple[str, int]]:
        """At most 20,000 words that occurred at least twice, with their counts, in the order of the file."""
        often = [(word, count) for word, count in self._counts.items() if count >= FEWEST_OCCURRENCES]
        return sorted(often, key=lambda entry: (-entry[1], entry[0]))[:MOST_WORDS]

    def write(self, folder: Path) -> None:
        """Write words.txt into a folder."""
        lines = [f"{word}\t{count}\n" for word, count in self.words()]
        (folder / FILE_NAME).write_text("".join(lines), encoding="ascii", newline="\n")
