"""The task `mmlu`: examination questions of 57 subjects, each with four choices (arXiv 2009.03300).

In: cais/mmlu, a row such as {"question": "Find the degree for …", "subject": "abstract_algebra", "choices": ["0", "4",
"2", "6"], "answer": 1}; `auxiliary_train`, questions of other examinations to learn from, has them one level deeper,
in "train", and no subject. Out: conversations as `choices.py` shows, with "subject".
"""

from typing import Any

from nanochat.config import Problem, config, option
from nanochat.data.task import Conversation
from nanochat_plugins.tasks.choices import Choices, choice
from nanochat_plugins.tasks.hub_rows import HubRowsConfig

REPO = "cais/mmlu"
LETTERS = ("A", "B", "C", "D")
AUXILIARY = "auxiliary_train"


@config
class MMLUConfig(HubRowsConfig):
    """Examination questions of 57 subjects, with four choices: 14,042 to be tested on, 1,531 for validation. Take
    `auxiliary_train`, 99,842 questions, to learn from: the others are to be measured on.
    """

    subject: str = option("all", name=True, doc="abstract_algebra, anatomy, …; all of them: `all`")
    split: str = option(AUXILIARY, choices=(AUXILIARY, "dev", "validation", "test"), doc="dev: five of each subject")

    def problems(self) -> list[Problem]:
        """What does not fit together. (Named in full: a frozen class is made anew, and `super()` would miss it.)"""
        found = HubRowsConfig.problems(self)
        if self.split == AUXILIARY and self.subject != "all":
            found.append(("subject", f"{AUXILIARY} is of no subject: leave `subject` out, or choose another `split`"))
        return found


class MMLU(Choices):
    """The questions of a split."""

    def __init__(self, config: MMLUConfig) -> None:
        self._auxiliary = config.split == AUXILIARY
        folder, columns = (AUXILIARY, ["train"]) if self._auxiliary else (config.subject, ["question", "choices"])
        columns += [] if self._auxiliary else ["answer", "subject"]
        pattern = f"{folder}/{'train' if self._auxiliary else config.split}-*.parquet"
        super().__init__(config, REPO, pattern, columns)

    def get_example(self, index: int) -> Conversation:
        found = self.rows[index]
        row: dict[str, Any] = found["train"] if self._auxiliary else found
        asked = choice(row["question"], row["choices"], LETTERS, LETTERS[row["answer"]])
        return {**asked, "subject": row.get("subject") or ""}
