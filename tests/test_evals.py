"""bpb and task evaluations against values counted by hand, on one process and on two."""

import itertools
import math
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nanochat.config import Component
from nanochat.data.source import Shard, Split
from nanochat.data.task import Conversation, Task
from nanochat.errors import StageError, Stopped
from nanochat.runtime import Runtime, local_runtime
from nanochat.stages.subject import Subject
from nanochat.testing import tiny_model, tiny_subject, tiny_tokenizer
from nanochat.testing.tiny import SENTENCES
from nanochat.text.tokenizer import Tokenizer
from nanochat_plugins.evals import bpb, chatcore, task
from nanochat_plugins.evals.bpb_config import BpbConfig
from nanochat_plugins.evals.chatcore_config import BaselineSlot, ChatCoreConfig
from nanochat_plugins.evals.task_config import TaskConfig
from nanochat_plugins.tools.calculator import Calculator


class Texts:
    """A source whose validation split is a list of texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts, self.readings = texts, 0

    def shards(self, split: Split) -> Sequence[Shard]:
        return [Shard(name="all", size_bytes=1, digest="")]

    def documents(self, shard: Shard, start: int = 0) -> Iterator[str]:
        self.readings += 1
        return iter(self.texts[start:])

    def skipped(self) -> Mapping[str, int]:
        return {}


class Letters(Task):
    """Which letter comes next: the right one is always B."""

    eval_type = "categorical"  # type: ignore[assignment]

    def __init__(self, questions: Sequence[str]) -> None:
        super().__init__()
        self.questions = questions

    def num_examples(self) -> int:
        return len(self.questions)

    def get_example(self, index: int) -> Conversation:
        messages = [{"role": "user", "content": self.questions[index]}, {"role": "assistant", "content": "B"}]
        return {"messages": messages, "letters": ("A", "B", "C")}

    def evaluate(self, conversation: Conversation, completion: str) -> bool:
        return completion == "B"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tiny_tokenizer()


def subject(**changes: Any) -> Subject:
    return tiny_subject(**{"model": tiny_model(sequence_len=32), "sources": {}, **changes})


def test_bpb_is_the_sum_of_nats_over_the_sum_of_bytes_counted_one_token_at_a_time(tokenizer: Tokenizer) -> None:
    given = subject(sources={"all": Texts(SENTENCES)})
    found = bpb.evaluate(BpbConfig(tokens=320, rows=3), given)
    ids = [i for text in SENTENCES for i in [tokenizer.bos_id, *tokenizer.encode(text)]][: 10 * 32 + 1]
    nats = counted = 0.0
    for row in range(10):
        inputs = ids[row * 32 : row * 32 + 32]
        logs = given.model(torch.tensor([inputs]))[0].double().log_softmax(-1)
        for position in range(32):
            target = ids[row * 32 + position + 1]
            if target != tokenizer.bos_id:
                nats -= float(logs[position, target].detach())
                counted += len(tokenizer.decode_bytes([target]))
    assert found["bpb"].value == pytest.approx(nats / math.log(2) / counted, rel=1e-5)
    assert found["bpb"].n == 10
    # An untrained model is no better than the best unigram model of the same tokens.
    assert found["unigram_bpb"].value < found["bpb"].value


def test_rows_are_kept_with_their_own_bits_and_the_digest_is_of_what_was_measured(tokenizer: Tokenizer) -> None:
    kept: list[dict[str, Any]] = []
    given = subject(sources={"all": Texts(SENTENCES)}, keep_example=lambda line: kept.append(dict(line)))
    found = bpb.evaluate(BpbConfig(tokens=320, rows=3), given)
    ids = [i for text in SENTENCES for i in [tokenizer.bos_id, *tokenizer.encode(text)]]
    sizes = []
    for number, line in enumerate(kept):
        targets = ids[number * 32 + 1 : number * 32 + 33]
        sizes.append(sum(len(tokenizer.decode_bytes([target])) for target in targets if target != tokenizer.bos_id))
        assert tokenizer.decode(ids[number * 32 : number * 32 + 33]).startswith(line["question"])
    assert [line["index"] for line in kept] == list(range(10))
    bits = sum(line["score"] * size for line, size in zip(kept, sizes, strict=True))
    assert found["bpb"].value == pytest.approx(bits / sum(sizes))
    others = {
        tokens: bpb.evaluate(BpbConfig(tokens=tokens, rows=5), subject(sources={"b": Texts(SENTENCES)}))["bpb"].data
        for tokens in (320, 288)
    }
    assert others[320] == found["bpb"].data == found["unigram_bpb"].data != others[288]


def test_the_unigram_bound_is_the_entropy_of_the_tokens() -> None:
    targets = torch.tensor([[0, 0, 1], [1, 2, 2]])  # 2 is a special: no bytes
    found = bpb.bits_per_byte(bpb.under_own_frequencies(targets, torch.tensor([1, 3, 0])), "")
    assert (found.value, found.n) == (pytest.approx(4 * 1.0 / 8), 2)


def test_the_unigram_bounds_standard_error_is_the_spread_of_it_over_resampled_rows() -> None:
    random = torch.Generator().manual_seed(7)
    token_bytes = torch.tensor([0, 1, 2, 3, 5, 1, 4, 2])
    kinds = torch.rand(300, 8, generator=random) ** 3  # each row has favourites, as documents do
    rows = torch.multinomial(kinds, 40, replacement=True, generator=random)
    found = bpb.bits_per_byte(bpb.under_own_frequencies(rows, token_bytes), "")

    def entropy(chosen: torch.Tensor) -> float:
        counts = np.bincount(rows[chosen].flatten().numpy(), minlength=8)
        counts[0] = 0  # a token without bytes
        bits = -sum(count * math.log2(count / counts.sum()) for count in counts if count)
        return float(bits / (counts * token_bytes.numpy()).sum())

    assert found.value == pytest.approx(entropy(torch.arange(300)), rel=1e-12)
    drawn = [entropy(torch.randint(300, (300,), generator=random)) for _ in range(400)]
    assert found.standard_error == pytest.approx(statistics.stdev(drawn), rel=0.2)


def test_the_validation_text_is_read_once_in_a_stage_however_often_it_is_measured() -> None:
    source = Texts(SENTENCES)
    given = subject(sources={"all": source})
    first, second = (bpb.evaluate(BpbConfig(tokens=320), given) for _ in range(2))
    assert first == second
    assert source.readings == 1


def test_a_source_too_short_for_a_row_is_left_out_in_words_and_only_if_all_are_it_fails() -> None:
    notes: list[str] = []
    given = subject(sources={"all": Texts(SENTENCES), "short": Texts(["a"])}, note=notes.append)
    assert bpb.evaluate(BpbConfig(tokens=640), given)["bpb"].n == 10
    assert "leaves `short` out" in notes[0]
    with pytest.raises(StageError, match="E302"):
        bpb.evaluate(BpbConfig(tokens=640), subject(sources={"short": Texts(["a"])}))


def test_the_likeliest_letter_is_that_of_each_prompt_alone_whatever_the_batch(tokenizer: Tokenizer) -> None:
    questions = [f"Which? {'x' * n}" for n in range(9)]
    component = Component(kind="task", name="letters", use="letters", revision=1, config=None)
    kept: list[Mapping[str, Any]] = []
    given = subject(build=lambda _: Letters(questions), keep_example=kept.append)
    found = task.evaluate(TaskConfig(task=component, rows=4), given)
    from nanochat.text.conversation import render_prompt

    expected = []
    for question in questions:
        prompt = render_prompt({"messages": [{"role": "user", "content": question}]}, tokenizer)
        row = given.model(torch.tensor([prompt]))[0, -1]
        expected.append(max("ABC", key=lambda letter, row=row: float(row[tokenizer.encode(letter)[0]].detach())))
    assert {example["index"]: example["completion"] for example in kept} == dict(enumerate(expected))
    assert found["accuracy"].value == pytest.approx(expected.count("B") / 9)


def test_what_a_score_depended_on_is_kept_beside_each_example() -> None:
    letters = Letters(["Which?"])
    letters.conditions = {"sandbox": ["rlimits"]}
    component = Component(kind="task", name="letters", use="letters", revision=1, config=None)
    kept: list[Mapping[str, Any]] = []
    task.evaluate(TaskConfig(task=component), subject(build=lambda _: letters, keep_example=kept.append))
    assert kept[0]["sandbox"] == ["rlimits"]


def test_a_prompt_longer_than_the_context_counts_as_unsolved_and_is_counted() -> None:
    component = Component(kind="task", name="letters", use="letters", revision=1, config=None)
    given = subject(build=lambda _: Letters(["why " * 40, "q"]))
    found = task.evaluate(TaskConfig(task=component), given)
    assert found["too_long"].value == 1
    assert found["accuracy"].n == 2


def test_an_answer_counts_as_solved_with_a_tool_only_if_a_tool_gave_a_result() -> None:
    class Answered:
        text, parts = "#### 3", [{"type": "python", "text": "1+"}, {"type": "text", "text": "#### 3"}]

    class Three(Task):
        def evaluate(self, conversation: Conversation, completion: str) -> bool:
            return completion == "#### 3"

    scorer = object.__new__(task.Generative)
    scorer.task = Three()
    assert scorer._scored({}, Answered()) == task.Result(score=1.0, with_tool=False, answer=Answered.parts)
    Answered.parts = [*Answered.parts, {"type": "python_output", "text": "3"}]
    assert scorer._scored({}, Answered()).with_tool


class Lengths(Task):
    """Solved by an answer of an even number of characters: noise decides, and always the same noise."""

    eval_type = "generative"  # type: ignore[assignment]

    def __init__(self, concurrent: bool = False) -> None:
        super().__init__()
        self.concurrent, self.threads = concurrent, set[int]()

    def num_examples(self) -> int:
        return 13

    def get_example(self, index: int) -> Conversation:
        question = f"{index}" + " why?" * (40 if index == 5 else index % 4)
        return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": ""}]}

    def evaluate(self, conversation: Conversation, completion: str) -> bool:
        self.threads.add(threading.get_ident())
        time.sleep(0.01 if self.concurrent else 0)
        return len(completion) % 2 == 0


def answered(given: Task, **options: Any) -> tuple[Mapping[str, Any], dict[int, list[Any]]]:
    """Figures, and each example's answers."""
    component = Component(kind="task", name="t", use="t", revision=1, config=None)
    kept: dict[int, list[Any]] = {}
    runtime = options.pop("runtime", local_runtime())
    asked = subject(
        build=lambda _: given,
        runtime=runtime,
        keep_example=lambda line: kept.setdefault(line["index"], []).append((line["completion"], line["score"])),
    )
    config = TaskConfig(task=component, **{"max_tokens": 8, **options})
    return task.evaluate(config, asked), kept


@pytest.mark.parametrize("options", [{}, {"samples": 3, "temperature": 1.0}])
def test_answers_are_the_same_whatever_is_answered_beside_them(options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, wanted = answered(Lengths(), rows=1, **options)
    assert {score for lines in wanted.values() for _, score in lines} == {0.0, 1.0}
    assert answered(Lengths(), rows=32, **options) == (alone, wanted)
    sums: list[torch.Tensor] = []
    monkeypatch.setattr(Runtime, "sum", lambda _, values: sums.append(values.clone()) or values)
    found: dict[int, list[Any]] = {}
    for rank in range(3):
        runtime = Runtime(device=torch.device("cpu"), dtype=torch.float32, rank=rank, world_size=3)
        found |= answered(Lengths(), rows=4, runtime=runtime, **options)[1]
    assert found == wanted
    total = task.figures(torch.stack(sums).sum(dim=0), options.get("samples", 1), alone["accuracy"].data, tools=False)
    assert total == alone


def test_answers_to_tasks_that_run_programs_are_scored_in_several_threads() -> None:
    one, several = Lengths(), Lengths(concurrent=True)
    assert answered(one) == answered(several, workers=4)
    assert len(one.threads) == 1
    assert len(several.threads) > 1


def test_chatcore_is_the_mean_of_centred_accuracies_and_its_error_that_of_independent_tasks() -> None:
    tasks: dict[str, Task] = {"letters": Letters([f"q{n}" for n in range(9)]), "said": Lengths()}
    components = {
        name: Component(kind="task", name=name, use=name, revision=1, config=None, slot=slot)
        for name, slot in (("letters", None), ("said", BaselineSlot(baseline=0.5)))
    }
    kept: list[Mapping[str, Any]] = []
    given = subject(build=lambda component: tasks[component.name], keep_example=kept.append)
    found = chatcore.evaluate(ChatCoreConfig(tasks=components, max_tokens=8), given)
    letters, said = found["letters.accuracy"], found["said.accuracy"]
    assert said == answered(Lengths())[0]["accuracy"]
    centred = ((letters.value - 0.25) / 0.75, (said.value - 0.5) / 0.5)
    errors = (letters.standard_error / 0.75, said.standard_error / 0.5)  # type: ignore[operator]
    assert found["chatcore"].value == pytest.approx(sum(centred) / 2)
    assert found["chatcore"].standard_error == pytest.approx(math.hypot(*errors) / 2)
    assert found["chatcore"].n == 22
    assert {(line["task"], line["index"]) for line in kept} == {
        *(("letters", n) for n in range(9)),
        *(("said", n) for n in range(13)),
    }


def test_pass_at_k_is_how_often_a_draw_of_k_answers_holds_a_right_one() -> None:
    for n in range(1, 7):
        for right in range(n + 1):
            answers = [True] * right + [False] * (n - right)
            for k in range(1, n + 1):
                draws = list(itertools.combinations(answers, k))
                expected = sum(any(draw) for draw in draws) / len(draws)
                assert task.pass_at(k, n, right) == pytest.approx(expected)
    figures, kept = answered(Lengths(), samples=4, temperature=1.0)
    assert {"pass@1", "pass@2", "pass@4"} <= set(figures)
    assert figures["pass@1"].value == pytest.approx(figures["accuracy"].value)
    solved = [sum(score for _, score in lines) for lines in kept.values()]
    assert figures["pass@4"].value == pytest.approx(sum(map(bool, solved)) / 13)
    assert figures["pass@4"].n == 13


def test_an_evaluation_that_is_asked_to_stop_stops() -> None:
    with pytest.raises(Stopped):
        bpb.evaluate(BpbConfig(tokens=320), subject(sources={"a": Texts(SENTENCES)}, should_stop=lambda: True))


def test_every_rank_goes_through_equally_many_rounds_and_together_they_see_each_example_once() -> None:
    for count in range(1, 40):
        seen: list[int] = []
        lengths = set()
        for rank in range(4):
            runtime = Runtime(device=torch.device("cpu"), dtype=torch.float32, rank=rank, world_size=4)
            rounds = list(subject(runtime=runtime).rounds(count, 3))
            lengths.add(len(rounds))
            seen += [index for picked in rounds for index in picked]
        assert len(lengths) == 1
        assert sorted(seen) == list(range(count))


def test_jobs_are_shared_by_cost_in_equally_many_rounds_and_each_is_done_once() -> None:
    costs = [float(1 + (n * n) % 37) for n in range(50)] + [400.0]
    for ranks in (1, 2, 3, 8):
        done: list[int] = []
        loads, rounds = [], set()
        for rank in range(ranks):
            runtime = Runtime(device=torch.device("cpu"), dtype=torch.float32, rank=rank, world_size=ranks)
            own = list(subject(runtime=runtime).jobs(costs))
            rounds.add(len(own))
            loads.append(sum(costs[job] for job in own if job is not None))
            done += [job for job in own if job is not None]
        assert sorted(done) == list(range(51))
        assert len(rounds) == 1
        # Graham's bound for the dearest first, against what no sharing can be below.
        assert max(loads) <= 4 / 3 * max(sum(costs) / ranks, 400.0)


def test_two_processes_measure_what_one_does(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    ran = subprocess.run([*command, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    alone = measured(local_runtime())
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == pytest.approx(alone, rel=1e-6)


def measured(runtime: Runtime) -> dict[str, float]:
    """Figures of uneven work: 33 rows in rounds of 16, 5 questions in rounds of 2, with a stop asked in every round."""

    def ask() -> bool:
        return runtime.any(False)

    component = Component(kind="task", name="letters", use="letters", revision=1, config=None)
    given = subject(
        runtime=runtime, sources={"all": Texts(SENTENCES)}, build=lambda _: Letters([f"q{n}" for n in range(5)]),
        should_stop=ask, tools=[Calculator()],
    )  # fmt: skip
    figures = {**bpb.evaluate(BpbConfig(tokens=33 * 32, rows=16), given)}
    figures |= task.evaluate(TaskConfig(task=component, rows=2), given)
    return {name: figure.value for name, figure in figures.items()}


if __name__ == "__main__":  # one of the two processes
    from nanochat.runtime import distributed_runtime

    with distributed_runtime(device="cpu", dtype="float32", seed=0) as shared:
        torch.save(measured(shared), Path(sys.argv[1]) / f"{shared.rank}.pt")
