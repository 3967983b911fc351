"""The words of the spelling tasks, and the options that say which. How words are split and spelt.

In: a tokenizer's words.txt or a list of the user's (one word a line, optionally a tab and its count; most frequent
first). Out: the words of a split. One place for all spelling tasks, so that a word that one of them tests is never
spelt by another in training, as long as both read one list.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nanochat.config import Artifact, Fingerprinted, Problem, artifact, config, option
from nanochat.errors import wrong_input
from nanochat_plugins.tasks.generated import GeneratedConfig, held_out
from nanochat_plugins.tasks.user_file import content, digest

TEST_SHARE = 0.1
ALWAYS_TRAINED = 1_000
"""The most frequent words are never tested: a small vocabulary holds them as single tokens, whose letters a model
learns by seeing them spelt and in no other way."""
LENGTHS = range(3, 13)


@config
class SpellingConfig(GeneratedConfig, Fingerprinted):
    """Options of a task that spells."""

    words: Artifact | None = artifact("tokenizer", optional=True, doc="a tokenizer, for the words of its corpus")
    # The content decides the result, not the place: the fingerprint stands for it.
    word_list: Path | None = option(None, execution=True, doc="instead of `words`: a file with a word a line")
    max_words: int = option(8_000, minimum=1, maximum=10_000_000, doc="the most frequent words to choose from")

    def problems(self) -> list[Problem]:
        """What does not fit together: where words come from must be said, once."""
        found = GeneratedConfig.problems(self)
        if (self.words is None) == (self.word_list is None):
            found.append(("word_list", 'give either words = "stage:NAME" (a tokenizer) or word_list = "FILE"'))
        return found

    def fingerprint(self) -> Mapping[str, Any]:
        """The digest of a word list; a tokenizer has a key of its own."""
        return {"sha256": digest(self.word_list)} if self.word_list else {}


def words_of(config: SpellingConfig) -> Sequence[str]:
    """The words of the config's split, most frequent first. InputError E301, E302, E304."""
    place = config.word_list
    if place is None:
        assert config.words is not None
        place = config.words.folder() / "words.txt"
    words = _read(place)[: config.max_words]
    tested = {word for word in words[ALWAYS_TRAINED:] if held_out(word, TEST_SHARE)}
    chosen = [word for word in words if (word in tested) == (config.split == "test")]
    if not chosen:
        raise wrong_input(
            "E302",
            f"{place} has no word for the {config.split} split: {len(words)} of its words can be asked",
            help=f"words have {LENGTHS[0]} to {LENGTHS[-1]} letters a to z; tests need over {ALWAYS_TRAINED} of them",
        )
    return chosen


def spelt(word: str) -> str:
    """A word's letters: `apple` is `a p p l e`. With spaces, each letter is a token of its own."""
    return " ".join(word)


def _read(place: Path) -> list[str]:
    """The words that can be asked, each once, in the file's order."""
    try:
        lines = content(place).decode().splitlines()
    except UnicodeDecodeError as fault:
        raise wrong_input("E304", f"the word list {place} is not UTF-8: {fault}") from fault
    words = (line.partition("\t")[0].strip() for line in lines)
    return list(dict.fromkeys(word for word in words if _can_be_asked(word)))


def _can_be_asked(word: str) -> bool:
    return len(word) in LENGTHS and word.isascii() and word.isalpha() and word.islower()
