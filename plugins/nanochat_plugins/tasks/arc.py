"""The task `arc`: natural science from school examinations, with three to five choices (arXiv 1803.05457).

In: allenai/ai2_arc, a row such as {"question": "Which factor …?", "choices": {"text": ["dry palms", …], "label": ["A",
…]}, "answerKey": "A"}; a few rows have 1, 2, 3, 4 for labels. Out: conversations as `choices.py` shows.
"""

from nanochat.config import config, option
from nanochat.data.task import Conversation
from nanochat_plugins.tasks.choices import Choices, choice
from nanochat_plugins.tasks.hub_rows import HubRowsConfig

REPO = "allenai/ai2_arc"
SUBSETS = {"easy": "ARC-Easy", "challenge": "ARC-Challenge"}


@config
class ARCConfig(HubRowsConfig):
    """Natural science from school examinations, with choices: about 5,200 questions in `easy`, 2,590 in `challenge`.
    Take `train` to teach the form of such questions, `test` to measure what a model knows.
    """

    subset: str = option("easy", choices=tuple(SUBSETS), doc="challenge: what neither search nor counting solved")
    split: str = option("train", choices=("train", "validation", "test"), doc="test is for the final evaluation alone")


class ARC(Choices):
    """The questions of a subset's split."""

    def __init__(self, config: ARCConfig) -> None:
        pattern = f"{SUBSETS[config.subset]}/{config.split}-*.parquet"
        super().__init__(config, REPO, pattern, ("question", "choices", "answerKey"))

    def get_example(self, index: int) -> Conversation:
        row = self.rows[index]
        return choice(row["question"], row["choices"]["text"], row["choices"]["label"], row["answerKey"])
