"""Small things to try a plugin on: always the same, made in milliseconds, real all through.

In: nothing, or the options to change. Out: a tokenizer of 300 ids, a model of two blocks, a conversation, a source, a
Runtime, and a Subject that holds them. The caller's random numbers are left alone.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch

from nanochat.config import Component
from nanochat.data.source import Shard, Split
from nanochat.data.task import Conversation
from nanochat.model.gpt import GPT
from nanochat.model.gpt_config import GPTConfig
from nanochat.registry import load_registry
from nanochat.runtime import Runtime, local_runtime
from nanochat.stages.subject import Subject
from nanochat.text.tokenizer import Tokenizer

SENTENCES = tuple(f"The {n} small birds sat on a wall, and {n * n} flew away when it rained; é—ü" for n in range(60))
VOCABULARY = 300


@cache
def tiny_tokenizer() -> Tokenizer:
    """A tokenizer of 300 ids, trained on sixty sentences."""
    return Tokenizer.train(SENTENCES, vocab_size=VOCABULARY)


def tiny_runtime() -> Runtime:
    """One process on the CPU, in float32."""
    return local_runtime()


def tiny_model(**options: Any) -> GPT:
    """A GPT of two blocks, 32 wide, for 300 ids and rows of 64 tokens; `options` are those of `GPTConfig`.

    Its weights are noise: an untrained model of this kind says nothing, and would hide that an answer is wrong.
    """
    shape = {"depth": 2, "dim": 32, "head_dim": 16, "n_head": 2, "n_kv_head": 2, "sequence_len": 64}
    config = GPTConfig(**{**shape, "vocab_size": VOCABULARY, **options})
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = GPT(config)
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def tiny_conversation() -> Conversation:
    """A question, and an answer of every sort of part."""
    answer = [
        {"type": "python", "text": "12+34"},
        {"type": "python_output", "text": "46"},
        {"type": "text", "text": "\n#### 46"},
    ]
    return {"messages": [{"role": "user", "content": "What is 12 + 34?"}, {"role": "assistant", "content": answer}]}


class TinySource:
    """Texts as a source: one shard a split, all of them for training, the last fifth for validation too."""

    def __init__(self, texts: Sequence[str] = SENTENCES) -> None:
        self.texts = {"train": texts, "validation": texts[-(len(texts) // 5 or 1) :]}

    def shards(self, split: Split) -> Sequence[Shard]:
        content = "\n".join(self.texts[split]).encode()
        return [Shard(name=split, size_bytes=len(content), digest=hashlib.sha256(content).hexdigest())]

    def documents(self, shard: Shard, start: int = 0) -> Iterator[str]:
        return iter(self.texts[shard.name][start:])

    def skipped(self) -> Mapping[str, int]:
        return {}


def tiny_subject(**changes: Any) -> Subject:
    """What an evaluation is given: the tiny model and tokenizer, one source, and whatever `changes` says.

    Components of the evaluation's config are built by the installed plugins.
    """
    return Subject(
        **{
            "model": tiny_model().eval(),
            "tokenizer": tiny_tokenizer(),
            "runtime": tiny_runtime(),
            "build": _build_installed,
            "sources": {"tiny": TinySource()},
            **changes,
        }
    )


def _build_installed(component: Component, *arguments: Any) -> Any:
    return load_registry().builder(component.kind, component.use)(component.config, *arguments)
