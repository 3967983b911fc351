"""The task `smoltalk`: general conversations, written by larger models (arXiv 2502.02737).

In: HuggingFaceTB/smol-smoltalk, a row such as {"messages": [{"role": "user", "content": "Hi there"}, {"role":
"assistant", "content": "Hello! How can I help you today?"}]}, some with a system message before. Out: these
conversations. There is nothing to score by: an answer is right when it is the reference, word for word.
"""

from typing import Literal

from nanochat.config import config, option
from nanochat.data.task import Conversation, Task
from nanochat_plugins.tasks.hub_rows import HubRows, HubRowsConfig

REPO = "HuggingFaceTB/smol-smoltalk"


@config
class SmolTalkConfig(HubRowsConfig):
    """General conversations, 460 thousand to learn from. Take it as the bulk of what a chat model is finetuned on."""

    split: str = option("train", choices=("train", "test"), doc="which part of the data set")


class SmolTalk(Task):
    """The conversations of a split."""

    def __init__(self, config: SmolTalkConfig) -> None:
        super().__init__(config.start, config.stop, config.step)
        self._rows = HubRows(REPO, config.revision, f"data/{config.split}-*.parquet", ("messages",))

    @property
    def eval_type(self) -> Literal["generative"]:
        return "generative"

    def num_examples(self) -> int:
        return len(self._rows)

    def get_example(self, index: int) -> Conversation:
        messages = self._rows[index]["messages"]
        return {"messages": [{"role": said["role"], "content": said["content"]} for said in messages]}

    def evaluate(self, conversation: Conversation, completion: str) -> bool:
        return completion.split() == str(conversation["messages"][-1]["content"]).split()
