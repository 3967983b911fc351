"""One measurement of one implementation, in a process of its own, so that its peak of memory is its own.

    python bpe_worker.py train IMPLEMENTATION CORPUS THREADS
    python bpe_worker.py encode IMPLEMENTATION CORPUS THREADS VOCABULARY

It says `ready` once all that is not measured is done, waits for a line, does the work, and answers in JSON: bytes of
text, CPU seconds, peak memory in MB (the interpreter and what the work was given included). It needs Linux.
"""

import json
import os
import re
import resource
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from bpe_corpus import documents

VOCABULARY = 32_768
EVERY = 8  # an eighth of the documents is encoded

Work = Callable[[], Any]


def reading(texts: Iterator[str]) -> Work:
    """No tokenizer at all: the limit that reading the text sets to training."""
    return lambda: sum(map(len, texts))


def train_nanochat(texts: Iterator[str]) -> Work:
    from nanochat.text.tokenizer import Tokenizer

    return lambda: Tokenizer.train(texts, vocab_size=VOCABULARY)


def train_rustbpe(texts: Iterator[str]) -> Work:
    import rustbpe
    from nanochat.text.special import SPLIT_PATTERN

    return lambda: rustbpe.Tokenizer().train_from_iterator(texts, VOCABULARY - 9, pattern=SPLIT_PATTERN)


def train_tokenizers(texts: Iterator[str]) -> Work:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    from nanochat.text.special import SPLIT_PATTERN

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, letters])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - 9, show_progress=False, initial_alphabet=alphabet)
    return lambda: tokenizer.train_from_iterator(texts, trainer)


def encode_nanochat(texts: list[str], threads: int, folder: Path) -> Work:
    from nanochat.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder)
    return lambda: tokenizer.encode_batch(texts, threads=threads)


def encode_tiktoken(texts: list[str], threads: int, folder: Path) -> Work:
    import tiktoken

    from nanochat.text.vocabulary_file import read_vocabulary

    vocabulary = read_vocabulary(folder)
    ranks = {token: rank for rank, token in enumerate(vocabulary.tokens)}
    peer = tiktoken.Encoding("peer", pat_str=vocabulary.pattern, mergeable_ranks=ranks, special_tokens={})
    if threads == 1:
        return lambda: [peer.encode_ordinary(text) for text in texts]
    return lambda: peer.encode_ordinary_batch(texts, num_threads=threads)


def encode_tokenizers(texts: list[str], threads: int, folder: Path) -> Work:
    import tokenizers

    from nanochat.text.byte_level import byte_level
    from nanochat.text.vocabulary_file import read_vocabulary

    peer = byte_level(tokenizers, read_vocabulary(folder))
    return lambda: peer.encode_batch_fast(texts, add_special_tokens=False)


TRAIN = {
    "reading": reading,
    "nanochat": train_nanochat,
    "rustbpe": train_rustbpe,
    "tokenizers": train_tokenizers,
}
ENCODE = {"nanochat": encode_nanochat, "tiktoken": encode_tiktoken, "tokenizers": encode_tokenizers}


def work_of(task: str, name: str, corpus: Path, threads: int, folder: Path | None) -> tuple[Work, int]:
    """What to do, and the bytes of text in it."""
    if task == "train":
        return TRAIN[name](documents(corpus)), corpus.stat().st_size
    assert folder is not None
    texts = list(islice(documents(corpus), 0, None, EVERY))
    return ENCODE[name](texts, threads, folder), sum(len(text.encode()) for text in texts)


def main() -> None:
    task, name, corpus, threads, *folder = sys.argv[1:]
    os.environ["RAYON_NUM_THREADS"] = threads
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    work, size = work_of(task, name, Path(corpus), int(threads), Path(folder[0]) if folder else None)
    print("ready", flush=True)
    sys.stdin.readline()
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"bytes": size, "cpu_s": cpu, "peak_mb": peak_mb()}), flush=True)


def peak_mb() -> float:
    """Of this program's memory; what getrusage calls a peak may be the parent's, from before the program was loaded."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


if __name__ == "__main__":
    main()
