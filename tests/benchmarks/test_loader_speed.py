"""How fast batches are made: `pytest tests/benchmarks/test_loader_speed.py --benchmark-enable --benchmark-only -s`.

Documents are pieces of the standard library's text with the lengths of web pages (lognormal, 600 tokens in the median),
so that packing meets what it meets in pretraining. Each row is one batch of 32 rows of 2,048 tokens.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from nanochat.data.packing import Document, FitBuffer, best_fit_row
from nanochat.data.prefetch import Prefetch
from nanochat.data.pretrain_loader import PretrainLoader
from nanochat.data.token_cache import TokenCache
from nanochat.model.gpt import GPT
from nanochat.model.gpt_config import GPTConfig
from nanochat.text.tokenizer import Tokenizer
from nanochat.training.objective import cross_entropy
from nanochat_plugins.sources.files import Files
from nanochat_plugins.sources.files_config import FilesConfig

ROWS, SEQUENCE_LEN = 32, 2_048
TOKENS = ROWS * SEQUENCE_LEN
DOCUMENTS = 20_000


def lengths(count: int, *, median: float = 600.0) -> np.ndarray:
    return np.random.default_rng(0).lognormal(np.log(median), 1.0, count).astype(int).clip(8, 60_000)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("loader")
    before = os.environ.get("NANOCHAT_HOME")
    os.environ["NANOCHAT_HOME"] = str(folder)
    yield folder
    os.environ.pop("NANOCHAT_HOME") if before is None else os.environ.update(NANOCHAT_HOME=before)


@pytest.fixture(scope="module")
def corpus(home: Path) -> tuple[Files, Tokenizer]:
    """A parquet file of 20,000 documents, about 18 million tokens, and a tokenizer that was trained on them."""
    library = sorted(Path(os.__file__).parent.glob("*.py")) + sorted(Path(os.__file__).parent.glob("*/*.py"))
    text = "\n".join(path.read_text(encoding="utf-8", errors="ignore") for path in library if "test" not in path.parts)
    tokenizer = Tokenizer.train([text], vocab_size=32_768)
    per_token = len(text) / len(tokenizer.encode(text[:200_000])) * 200_000 / len(text)
    rng = np.random.default_rng(1)
    documents = []
    for size in lengths(DOCUMENTS):
        chars = int(size * per_token)
        start = int(rng.integers(0, max(1, len(text) - chars)))
        documents.append(text[start : start + chars])
    path = home / "web.parquet"
    pq.write_table(pa.table({"text": documents}), path, row_group_size=1_024, compression="zstd")
    return Files(FilesConfig(path=path, validation_share=0.001)), tokenizer


def loader(corpus: tuple[Files, Tokenizer], **more: int) -> PretrainLoader:
    source, tokenizer = corpus
    settings = {"rows": ROWS, "sequence_len": SEQUENCE_LEN, "buffer": 1_000, "lanes": 8} | more
    return PretrainLoader({"web": (source, 1.0)}, tokenizer, packing="best_fit", **settings)


def tell(capsys: pytest.CaptureFixture[str], what: str, seconds: float, tokens: int = TOKENS) -> None:
    with capsys.disabled():
        print(f"\n{what}: {tokens / seconds / 1e6:.2f} million tokens/s")


def restored(benchmark, capsys, corpus, share: float, where: str) -> None:
    """Loading a state and the first batch behind it; the state lies so far into the shard."""
    made = loader(corpus)
    for _ in range(int(share * 18_000_000 / TOKENS)):
        made.next_batch()
    state = made.snapshot().state()

    def restore() -> None:
        fresh = loader(corpus)
        fresh.load_state(state)
        fresh.next_batch()

    benchmark.pedantic(restore, rounds=3)
    with capsys.disabled():
        print(f"\n{where}, restored at {share:.0%}: {benchmark.stats.stats.median:.3f} s")


@pytest.mark.parametrize("buffer", [1_000, 10_000, 100_000])
def test_packing_alone(benchmark, capsys, buffer):
    """The cost of a token does not depend on how many documents there are to choose from."""
    sizes = lengths(buffer + 20_000)
    ids = np.zeros(60_000, np.uint32)
    waiting = iter(np.tile(sizes, 100).tolist())
    packed = FitBuffer(SEQUENCE_LEN + 1)

    def refill() -> None:
        while len(packed) < buffer:
            packed.add(Document(ids[: next(waiting)]))

    refill()
    benchmark.pedantic(lambda: [best_fit_row(packed, refill) for _ in range(ROWS)], rounds=60, warmup_rounds=20)
    tell(capsys, f"packing from a buffer of {buffer:,}", benchmark.stats.stats.median)


@pytest.mark.parametrize("buffer", [1_000, 10_000, 100_000])
def test_noting_the_place(benchmark, capsys, buffer):
    """What each batch carries so that a checkpoint can be written of it: 8 lanes make 4 rows each, and are noted."""
    sizes = lengths(8 * buffer + 20_000)
    ids = np.zeros(60_000, np.uint32)
    waiting = iter(np.tile(sizes, 20).tolist())
    lanes = [FitBuffer(SEQUENCE_LEN + 1) for _ in range(8)]

    def make() -> None:
        for lane in lanes:
            for _ in range(4):
                best_fit_row(lane, lambda lane=lane: refill(lane))

    def refill(lane: FitBuffer) -> None:
        while len(lane) < buffer:
            lane.add(Document(ids[: next(waiting)]))

    make()
    benchmark.pedantic(lambda: [lane.note() for lane in lanes], setup=make, rounds=60)
    with capsys.disabled():
        print(f"\nnoting the place, 8 lanes of {buffer:,}: {benchmark.stats.stats.median * 1e3:.3f} ms a batch")


def test_from_parquet(benchmark, capsys, corpus):
    made = loader(corpus)
    benchmark.pedantic(made.next_batch, rounds=60, warmup_rounds=3)
    tell(capsys, "from parquet, tokenised on the way", benchmark.stats.stats.mean)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_restored_from_parquet(benchmark, capsys, corpus, share):
    restored(benchmark, capsys, corpus, share, "from parquet")


def test_from_the_cache(benchmark, capsys, corpus):
    source, tokenizer = corpus
    cache = TokenCache(tokenizer)
    for shard in source.shards("train"):
        cache.write(source, shard)
    made = loader(corpus)
    benchmark.pedantic(made.next_batch, rounds=200, warmup_rounds=3)
    tell(capsys, "from the cache", benchmark.stats.stats.mean)


def test_from_the_cache_made_ahead(benchmark, capsys, corpus):
    made = Prefetch(loader(corpus))
    benchmark.pedantic(made.next_batch, rounds=200, warmup_rounds=3)
    tell(capsys, "from the cache, on the prefetching thread", benchmark.stats.stats.mean)
    made.close()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_restored_from_the_cache(benchmark, capsys, corpus, share):
    restored(benchmark, capsys, corpus, share, "from the cache")


def test_the_share_of_a_d4s_step_that_waits(benchmark, capsys, corpus):
    """dim 256, T 512, 16,384 tokens a step, float32: read from parquet and tokenised while the model computes."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(depth=4, dim=256, head_dim=64, n_head=4, n_kv_head=4, sequence_len=512, vocab_size=32_768))
    made = Prefetch(loader(corpus, rows=32, sequence_len=512))
    waited = 0.0

    def step() -> None:
        nonlocal waited
        asked = time.perf_counter()
        batch = made.next_batch()
        waited += time.perf_counter() - asked
        for part in batch.split(8):
            cross_entropy(model, part, torch.device("cpu")).backward()

    step()  # fills the packing buffer
    waited = 0.0
    benchmark.pedantic(step, rounds=4)
    made.close()
    total = benchmark.stats.stats.total
    with capsys.disabled():
        print(f"\na d4's steps waited {waited / total:.4%} of {total:.1f} s ({4 * 16_384 / total:,.0f} tokens/s)")
