"""The task `simple_spelling`: spell a word. It teaches which letters a token is made of.

In: words (of the tokenizer's corpus), a split. Out: conversations such as

    user       Spell the word apple
    assistant  a p p l e

An answer is right when it is the word's letters, in any spacing, case and punctuation. The letters stand as
`spelling_bee` writes them, and both have one split of the words, so that they teach each other and give nothing away.
"""

from nanochat.config import config
from nanochat.data.task import Conversation
from nanochat_plugins.tasks.generated import GeneratedTask, draw
from nanochat_plugins.tasks.words import SpellingConfig, spelt, words_of

QUESTIONS = (
    "Spell the word {word}",
    "Spell {word}.",
    'Spell "{word}"',
    "spell {word}",
    "How do you spell {word}?",
    "How is the word {word} spelt?",
    "Please spell the word {word}.",
    "Can you spell {word}?",
)


@config
class SimpleSpellingConfig(SpellingConfig):
    """Spell a word: "Spell apple." is answered by its letters. Take it beside `spelling_bee`, and wherever a model has
    to know which letters its tokens are made of; examples are made, nothing is downloaded.
    """


class SimpleSpelling(GeneratedTask):
    """Conversations that spell; the words in turn, so that a size of their number asks each once."""

    def __init__(self, config: SimpleSpellingConfig) -> None:
        super().__init__(config)
        self._config = config
        self._words = words_of(config)

    def get_example(self, index: int) -> Conversation:
        word = self._words[index % len(self._words)]
        question = draw(self._config, index).choice(QUESTIONS).format(word=word)
        return {
            "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": spelt(word)}],
        }

    def evaluate(self, conversation: Conversation, completion: str) -> bool:
        return _letters(completion) == _letters(conversation["messages"][-1]["content"])


def _letters(text: str) -> str:
    return "".join(char for char in text.lower() if char.isalpha())
