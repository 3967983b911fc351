"""Sources, tasks and a tokenizer small enough to follow by hand, for the tests of the loaders."""

from itertools import pairwise

import torch

from nanochat.data.finetune_loader import FinetuneLoader
from nanochat.data.pretrain_loader import PretrainLoader
from nanochat.data.source import Shard
from nanochat.data.task import Task
from nanochat.data.task_mixture import TaskShare
from nanochat.text.special import BOS, SPECIAL_TOKENS

SPECIALS = {token: 256 + number for number, token in enumerate(SPECIAL_TOKENS)}


class ByteTokenizer:
    """A byte is a token; the specials come behind."""

    vocab_size = 256 + len(SPECIALS)
    bos_id = SPECIALS[BOS]
    digest = "bytes"

    def encode(self, text):
        return list(text.encode())

    def encode_batch(self, texts, *, threads=None):
        return [self.encode(text) for text in texts]

    def decode(self, ids):
        return bytes(i for i in ids if i < 256).decode(errors="replace")

    def special_id(self, token):
        return SPECIALS[token]


class Texts:
    """A source of shards that are lists. It counts the documents that are read."""

    def __init__(self, *shards):
        self.texts = shards
        self.read = 0

    def shards(self, split):
        return [Shard(name=str(n), size_bytes=0, digest=str(n)) for n in range(len(self.texts)) if split == "train"]

    def documents(self, shard, start=0):
        for text in self.texts[int(shard.name)][start:]:
            self.read += 1
            yield text

    def skipped(self):
        return {}


class Chats(Task):
    """A task of question and answer pairs."""

    def __init__(self, pairs):
        super().__init__()
        self.pairs = pairs

    def num_examples(self):
        return len(self.pairs)

    def get_example(self, index):
        question, answer = self.pairs[index]
        return {
            "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
        }


def words(count, *, first=0):
    """Documents that are all different, of 5 to 40 bytes."""
    return [f"d{n}:" + "x" * (n * 7 % 37) for n in range(first, first + count)]


def pretrain(sources, *, rows=4, sequence_len=32, packing="best_fit", buffer=6, lanes=4, **more):
    sources = {name: entry if isinstance(entry, tuple) else (entry, 1.0) for name, entry in sources.items()}
    return PretrainLoader(
        sources,
        ByteTokenizer(),
        rows=rows,
        sequence_len=sequence_len,
        packing=packing,
        buffer=buffer,
        lanes=lanes,
        **more,
    )


def finetune(tasks, *, rows=4, sequence_len=48, loss_on="assistant", buffer=5, lanes=4, seed=7, **more):
    tasks = {name: entry if isinstance(entry, TaskShare) else TaskShare(task=entry) for name, entry in tasks.items()}
    return FinetuneLoader(
        tasks,
        ByteTokenizer(),
        rows=rows,
        sequence_len=sequence_len,
        loss_on=loss_on,
        buffer=buffer,
        lanes=lanes,
        seed=seed,
        **more,
    )


def chats(count=30, name="q"):
    return Chats([(f"{name}{n}?", f"{name}{n}" * (1 + n % 3)) for n in range(count)])


def rows_of(batch):
    """A batch's rows as ids: the inputs and the last target (pads are kept as BOS)."""
    return [tuple(row) for row in torch.cat([batch.inputs, batch.targets[:, -1:]], dim=1).tolist()]


def documents_of(rows):
    """The texts of packed rows, each as it was cropped."""
    bos = ByteTokenizer.bos_id
    for row in rows:
        starts = [n for n, i in enumerate(row) if i == bos] + [len(row)]
        for start, stop in pairwise(starts):
            yield bytes(row[start + 1 : stop]).decode()
