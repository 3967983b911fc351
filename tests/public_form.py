"""Tasks as they are written for the public nanochat, registered with one line each and otherwise left as they are.

In the public repository the first import is `from tasks.common import Task`.
"""

from nanochat.data.task import Task
from nanochat.hooks import hookimpl


class Capitals(Task):
    def __init__(self, subset, split, **kwargs):
        super().__init__(**kwargs)
        assert subset in ["europe", "asia"], "subset must be europe|asia"
        assert split in ["train", "test"], "split must be train|test"
        rows = {"europe": [("France", "Paris"), ("Italy", "Rome"), ("Spain", "Madrid"), ("Norway", "Oslo")]}
        self.ds = rows.get(subset, [("Japan", "Tokyo")]) * (3 if split == "train" else 1)

    @property
    def eval_type(self):
        return "generative"

    def num_examples(self):
        return len(self.ds)

    def get_example(self, index):
        """Get a single problem from the dataset."""
        country, capital = self.ds[index]
        messages = [
            {"role": "user", "content": f"What is the capital of {country}?"},
            {"role": "assistant", "content": [{"type": "text", "text": capital}]},
        ]
        return {"messages": messages}

    def evaluate(self, conversation, assistant_response):
        assert isinstance(assistant_response, str), "Assuming simple string response for now"
        last_text_part = conversation["messages"][-1]["content"][-1]["text"]
        return int(assistant_response.strip() == last_text_part)

    def reward(self, conversation, assistant_response):
        return float(self.evaluate(conversation, assistant_response))


class Heavier(Task):
    def __init__(self, size=5, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    @property
    def eval_type(self):
        return "categorical"

    def num_examples(self):
        return self.size

    def get_example(self, index):
        user_message = (
            f"Multiple Choice question: Which is heavier, {index + 1} kg or {index + 3} kg?\n- first=A\n- second=B\n"
        )
        messages = [
            {"role": "user", "content": user_message},
            {"role": "assistant", "content": "B"},
        ]
        conversation = {
            "messages": messages,
            "letters": ["A", "B"],
        }
        return conversation

    def evaluate(self, conversation, assistant_response):
        assert assistant_response in conversation["letters"], (
            f"Answer {assistant_response} is expected to be one of {conversation['letters']}"
        )
        assistant_message = conversation["messages"][-1]["content"]
        return assistant_response == assistant_message


@hookimpl
def register_tasks(registry):
    registry.add("capitals", build="public_form:Capitals")
    registry.add("heavier", build="public_form:Heavier")
