"""CORE against the same examples one at a time, as the public code does them, in one run; and the cost per example.

    uv run pytest tests/benchmarks/test_core_speed.py --benchmark-enable --benchmark-only -s

A made-up bundle of the public one's shape: 11 tasks of choices (2 to 11 of them), 2 of schemas, 9 of language modeling,
with 0 to 10 examples shown. A d4 of REFERENCE (T 512, vocabulary 8,192), float32, one thread, by the processor's clock.
One at a time means: an example's choices as one padded batch, logits everywhere. Both begin with texts, and the prompts
that the evaluation keeps on disk are removed before each turn.
"""

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from core_bundle import WORDS, Task, answers, choices, schemas, texts_of, write
from pytest_benchmark.fixture import BenchmarkFixture

from nanochat.home import data_dir
from nanochat.model.gpt import GPT
from nanochat.model.gpt_config import GPTConfig
from nanochat.runtime import local_runtime
from nanochat.stages.subject import Subject
from nanochat.text.tokenizer import Tokenizer
from nanochat_plugins.evals import core
from nanochat_plugins.evals.core_bundle import Bundle
from nanochat_plugins.evals.core_config import CoreConfig
from nanochat_plugins.evals.core_prompts import prompts
from nanochat_plugins.sources.stories import Stories, StoriesConfig

VOCABULARY = 8192
CAP = 3
"""Examples of each task that are scored, of 12 that may be shown."""
D4 = GPTConfig(depth=4, dim=256, n_head=4, n_kv_head=4, head_dim=64, sequence_len=512, vocab_size=VOCABULARY)


@pytest.fixture(autouse=True)
def one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def texts() -> list[str]:
    source = Stories(StoriesConfig())
    (shard, *_) = source.shards("train")
    return [text for _, text in zip(range(2000), source.documents(shard), strict=False)]


def subject(keep: Callable[[Any], None]) -> Subject:
    torch.manual_seed(0)
    model = GPT(D4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    tokenizer = Tokenizer.train([*texts(), " ".join(WORDS)] * 2, vocab_size=1024)
    return Subject(
        model=model.eval(), tokenizer=tokenizer, runtime=local_runtime(), build=lambda _: None, keep_example=keep
    )


def bundle(n: int) -> dict[str, Task]:
    """n examples a task."""
    rng = random.Random(22)
    found: dict[str, Task] = {}
    # hellaswag twice, arc twice, openbook, lsat: 4; commonsense: 5; copa, piqa, boolq: 2; language identification: 11.
    for number, (most, shots) in enumerate(
        [(4, 0), (4, 10), (4, 10), (4, 10), (4, 0), (4, 3), (5, 10), (2, 0), (2, 10), (2, 10), (11, 10)]
    ):
        rows: list[dict[str, Any]] = []
        while len(rows) < n:
            rows += [row for row in choices(rng, n, most=most, length=12) if len(row["choices"]) == most]
        found[f"choice{number}"] = Task(type="multiple_choice", shots=min(shots, n - 1), examples=rows[:n])
    for number in range(2):
        found[f"schema{number}"] = Task(type="schema", shots=0, examples=schemas(rng, n))
    for number, shots in enumerate((10, 10, 0, 10, 10, 10, 10, 10, 0)):
        rows = answers(rng, n)
        found[f"answer{number}"] = Task(type="language_modeling", shots=min(shots, n - 1), examples=rows, baseline=0.0)
    return found


@torch.no_grad()
def one_at_a_time(described: dict[str, Task], given: Subject) -> dict[tuple[str, int], list[float]]:
    """Every example's nats a token, by choice."""
    found = {}
    for label, task in described.items():
        data = list(task.examples)
        random.Random(1337).shuffle(data)
        for index in range(CAP):
            ids, starts = texts_of(task, data, index, given.tokenizer)
            width = max(map(len, ids))
            batch = torch.tensor([one + [given.tokenizer.bos_id] * (width - len(one)) for one in ids])
            logits = given.model(batch)
            losses = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), batch.roll(-1, dims=1).flatten(), reduction="none"
            ).view_as(batch)
            found[label, index] = [
                float(losses[row, start - 1 : len(one) - 1].mean())
                for row, (one, start) in enumerate(zip(ids, starts, strict=True))
            ]
    return found


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    shutil.rmtree(data_dir() / "prompts", ignore_errors=True)
    began = time.process_time()
    found = work()
    return time.process_time() - began, found


def test_against_one_at_a_time(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    kept: list[Any] = []
    given, described = subject(kept.append), bundle(12)
    config = CoreConfig(bundle=write(tmp_path / "bundle", described), context=10**6, max_per_task=CAP)
    seconds: dict[str, list[float]] = {"core": [], "again": [], "one at a time": []}

    def take_turns() -> None:
        for _ in range(5):  # the least of several: what else runs on the machine only adds
            kept.clear()
            took, _ = timed(lambda: core.evaluate(config, attrs.evolve(given, kept={})))
            seconds["core"].append(took)
            began = time.process_time()
            core.evaluate(config, attrs.evolve(given, kept={}, keep_example=lambda _: None))
            seconds["again"].append(time.process_time() - began)
            took, wanted = timed(lambda: one_at_a_time(described, given))
            seconds["one at a time"].append(took)
        for line in kept:
            assert line["nats_per_token"] == pytest.approx(wanted[line["task"], line["index"]], abs=1e-5)
        assert len(kept) == len(wanted)

    benchmark.pedantic(take_turns, rounds=1)
    best = {name: min(found) for name, found in seconds.items()}
    print(f"\n{len(kept)} examples: " + ", ".join(f"{name} {took:.2f} s" for name, took in best.items()))
    print(
        f"{best['one at a time'] / best['core']:.1f} times as fast; {best['one at a time'] / best['again']:.1f} times "
        "with the prompts on disk"
    )


def test_cost_per_example_as_the_bundle_grows(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    given = subject(lambda _: None)
    rows: list[str] = []

    def grow() -> None:
        for n in (100, 400, 1600):
            described = {label: task for label, task in bundle(n).items() if label in ("choice1", "schema0", "answer0")}
            place = write(tmp_path / f"bundle{n}", described)
            config = CoreConfig(bundle=place, max_per_task=20)
            capped, _ = timed(lambda config=config: core.evaluate(config, attrs.evolve(given, kept={})))
            config = CoreConfig(bundle=place)

            def make(place: Path = place) -> None:
                whole = Bundle(place)
                for task in whole.tasks():
                    prompts(whole, task, given.tokenizer, None)

            made, _ = timed(make)
            rows.append(f"| {3 * n:,} | {capped / 60 * 1e3:.1f} | {made / (3 * n) * 1e3:.2f} |")

    benchmark.pedantic(grow, rounds=1)
    print("\n| examples in the bundle | ms an example, 20 a task | ms to make a prompt, all of them |")
    print("| --- | --- | --- |")
    print("\n".join(rows))
