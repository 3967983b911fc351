"""The task `smoltalk`: general conversations, written by larger models (arXiv 2502.02737).

In: HuggingFaceTB/smol-smoltalk, a row such as {"messages": [{"role": "user", "content": "Hi there"}, {"role":
"assistant", "content": "Hello! How can I help you today?"}]}, some with a system message before. Out: these
conversations. There is nothing to score by: an answer is right when it is the reference, word for word.
"""

from nanochat.config import config, option
from nanochat.data.task import Conversation
from nanochat_plugins.tasks.hub_rows import HubRowsConfig, HubTask

REPO = "HuggingFaceTB/smol-smoltalk"


@config
class SmolTalkConfig(HubRowsConfig):
    """General conversations, 460 thousand to learn from. Take it as the bulk of what a chat model is finetuned on."""

    split: str = option("train", choices=("train", "test"), doc="which part of the data set")


class SmolTalk(HubTask):
    """The conversations of a split."""

    def __init__(self, config: SmolTalkConfig) -> None:
        super().__init__(config, REPO, f"data/{config.split}-*.parquet", ("messages",))

    def get_example(self, index: int) -> Conversation:
        messages = self.rows[index]["messages"]
        return {"messages": [{"role": said["role"], "content": said["content"]} for said in messages]}

    def evaluate(self, conversation: Conversation, completion: str) -> bool:
        return completion.split() == str(conversation["messages"][-1]["content"]).split()
