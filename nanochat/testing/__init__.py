"""For a plugin author's own pytest: small things to try a plugin on, and checks that say which promise it breaks.

    from nanochat.testing import check_task
    from nanochat_acme.opposites import Opposites

    def test_the_task_keeps_its_contract() -> None:
        check_task(Opposites())

In: a built component, or its builder and config. Out: nothing, or one AssertionError that lists every fault: what was
found, what the contract says, how to mend it. Everything here imports torch, and nothing of nanochat imports it.
"""

from nanochat.testing.evaluation import check_eval
from nanochat.testing.optimizer import check_optimizer
from nanochat.testing.source import check_source
from nanochat.testing.task import check_task
from nanochat.testing.tiny import (
    TinySource,
    tiny_conversation,
    tiny_model,
    tiny_runtime,
    tiny_subject,
    tiny_tokenizer,
)
from nanochat.testing.tool import check_tool

__all__ = [
    "TinySource",
    "check_eval",
    "check_optimizer",
    "check_source",
    "check_task",
    "check_tool",
    "tiny_conversation",
    "tiny_model",
    "tiny_runtime",
    "tiny_subject",
    "tiny_tokenizer",
]
