"""The task `spelling_bee`: how many of a letter are in a word. The model spells it, then counts with its tool.

In: words (of the tokenizer's corpus), a split. Out: conversations such as

    user       How many r are in strawberry?
    assistant  s t r a w b e r r y
               <|python_start|>"strawberry".count("r")<|python_end|><|output_start|>3<|output_end|>
               #### 3

An answer is right when the number behind its last `####` is. Words of the test split are spelt in no training
example.
"""

import random

from nanochat.config import config
from nanochat.data.task import Conversation
from nanochat_plugins.tasks.generated import GeneratedTask, draw, final_number
from nanochat_plugins.tasks.words import SpellingConfig, spelt, words_of

PLAIN = "How many {letter} are in {word}?"
PLAIN_SHARE = 0.3
OTHERS = (
    "How many {letter} are in the word {word}?",
    "How many {letter}'s are in {word}?",
    "How many {letter} are there in {word}?",
    "How many times does {letter} occur in {word}?",
    "How many times does the letter {letter} occur in the word {word}?",
    "How often does the letter {letter} appear in {word}?",
    "Count the letter {letter} in {word}.",
    "Count the {letter} in the word {word}",
    "What is the number of {letter} in {word}?",
    "In the word {word}, how many {letter} are there?",
)
ABSENT_SHARE = 0.1
"""How often the letter is one that the word does not have."""


@config
class SpellingBeeConfig(SpellingConfig):
    """Count a letter in a word: the model spells it, then counts by the calculator. Take it for the strawberry
    question; it is learnt sooner with `simple_spelling` beside it, and needs `calculator` among the stage's tools.
    """


class SpellingBee(GeneratedTask):
    """Conversations about letters in words."""

    def __init__(self, config: SpellingBeeConfig) -> None:
        super().__init__(config)
        self._config = config
        self._words = words_of(config)

    def get_example(self, index: int) -> Conversation:
        chance = draw(self._config, index)
        word = chance.choice(self._words)
        letter = _letter(chance, word)
        count = str(word.count(letter))
        answer = [
            {"type": "text", "text": f"{spelt(word)}\n"},
            {"type": "python", "text": f'"{word}".count("{letter}")'},
            {"type": "python_output", "text": count},
            {"type": "text", "text": f"\n#### {count}"},
        ]
        return {
            "messages": [
                {"role": "user", "content": _question(chance, word, letter)},
                {"role": "assistant", "content": answer},
            ]
        }

    def evaluate(self, conversation: Conversation, completion: str) -> bool:
        reference = conversation["messages"][-1]["content"][-1]["text"]
        return final_number(completion) == final_number(reference)


def _letter(chance: random.Random, word: str) -> str:
    absent = sorted(set("abcdefghijklmnopqrstuvwxyz") - set(word))
    # From the word itself, so that a letter that occurs twice is asked twice as often.
    return chance.choice(absent) if chance.random() < ABSENT_SHARE else chance.choice(word)


def _question(chance: random.Random, word: str, letter: str) -> str:
    """A phrasing; the plain one is kept as it is, the others may be quoted, and begin with a small letter."""
    if chance.random() < PLAIN_SHARE:
        return PLAIN.format(letter=letter, word=word)
    template, quote = chance.choice(OTHERS), chance.choice(("", "", '"', "'"))
    if chance.random() < 0.3:
        template = template[0].lower() + template[1:]
    quoted = f'"{letter}"' if quote and chance.random() < 0.5 else letter
    return template.format(letter=quoted, word=f"{quote}{word}{quote}")
