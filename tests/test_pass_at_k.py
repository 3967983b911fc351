"""pass@k and its standard error, against counting over all subsets and NumPy's own statistics."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.config import Component
from nanochat.data.task import Conversation, Task
from nanochat.errors import StageError
from nanochat.stages.context import Figure
from nanochat.testing.tiny import tiny_runtime, tiny_subject, tiny_tokenizer
from nanochat.text.conversation import render_prompt
from nanochat.training.problems import Problem
from nanochat_plugins.evals.pass_at_k import evaluate, mean_of, pass_at
from nanochat_plugins.evals.pass_at_k_config import PassAtKConfig


@given(outcomes=st.lists(st.booleans(), min_size=1, max_size=9), k=st.integers(1, 9))
def test_pass_at_k_is_the_share_of_the_choices_of_k_answers_that_hold_a_right_one(outcomes: list[bool], k: int) -> None:
    k = min(k, len(outcomes))
    choices = [any(chosen) for chosen in combinations(outcomes, k)]
    assert pass_at(k, len(outcomes), sum(outcomes)) == pytest.approx(sum(choices) / len(choices), abs=1e-12)


@given(values=st.lists(st.floats(0, 1), min_size=2, max_size=50))
def test_the_standard_error_is_that_of_a_mean_over_problems(values: list[float]) -> None:
    found = mean_of(sum(values), sum(value**2 for value in values), len(values))
    assert found.value == pytest.approx(np.mean(values))
    assert found.standard_error == pytest.approx(np.std(values, ddof=1) / np.sqrt(len(values)), abs=1e-7)
    assert mean_of(0.5, 0.25, 1) == Figure(value=0.5, n=1)


class Letters(Task):
    """Solved by an answer with an e in it; the last question fills the context."""

    @property
    def eval_type(self) -> Any:
        return "generative"

    def num_examples(self) -> int:
        return 7

    def get_example(self, index: int) -> Conversation:
        question = "why? " * 40 if index == 6 else f"And {index}?"
        return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": "e"}]}

    def evaluate(self, conversation: Conversation, completion: str) -> bool:
        return "e" in completion

    def reward(self, conversation: Conversation, completion: str) -> float:
        return len(completion) / 10


def measured(rows: int, **changes: Any) -> tuple[Mapping[str, Figure], list[Mapping[str, Any]]]:
    kept: list[Mapping[str, Any]] = []
    component = Component(kind="task", name="letters", use="letters", revision=1, config={})
    subject = tiny_subject(build=lambda _: Letters(), keep_example=kept.append, **changes)
    return evaluate(PassAtKConfig(task=component, samples=4, max_tokens=5, rows=rows), subject), kept


def test_the_figures_are_those_of_the_answers_that_are_kept() -> None:
    figures, kept = measured(rows=9)
    assert len(kept) == 6 * 4
    by_problem = [kept[start : start + 4] for start in range(0, 24, 4)]
    for k in (1, 2, 4):
        shares = [pass_at(k, 4, sum("e" in said(line) for line in its)) for its in by_problem]
        assert figures[f"pass@{k}"].value == pytest.approx(np.mean([*shares, 0.0]))  # the last one does not fit
        assert figures[f"pass@{k}"].n == 7
    rewards = [np.mean([len(said(line)) / 10 for line in its]) for its in by_problem]
    assert figures["reward"].value == pytest.approx(np.mean([*rewards, 0.0]))
    assert figures["too_long"].value == 1
    assert 0 < figures["pass@1"].value < figures["pass@4"].value < 1


def said(line: Mapping[str, Any]) -> str:
    return "".join(part["text"] for part in line["completion"] if part["type"] == "text")


def test_they_are_the_same_for_any_number_of_answers_at_once() -> None:
    assert measured(rows=1) == measured(rows=64)


def test_without_a_task_the_problems_that_the_stage_holds_out_are_measured_and_none_is_an_error() -> None:
    task = Letters()
    problems = [
        Problem(number=i, name="letters", index=i, task=task, conversation=task[i],
                prompt=render_prompt(task[i], tiny_tokenizer()))
        for i in range(3)
    ]  # fmt: skip
    subject = tiny_subject(runtime=tiny_runtime(), problems=problems)
    assert evaluate(PassAtKConfig(samples=2, max_tokens=3), subject)["pass@2"].n == 3
    with pytest.raises(StageError, match="`pass_at_k` has no task, and its stage holds no problems out"):
        evaluate(PassAtKConfig(), tiny_subject())
