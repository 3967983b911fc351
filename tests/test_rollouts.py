"""Rollouts: many answers at once are those that each prompt gets alone, and a stop is heard in their midst."""

from typing import Any

import pytest

from nanochat.errors import Stopped
from nanochat.inference.engine import Engine
from nanochat.inference.sampling import Sampling
from nanochat.testing.tiny import tiny_model, tiny_runtime, tiny_tokenizer
from nanochat.text.conversation import render_prompt
from nanochat.training.rollouts import roll_out, sampling_seed


def prompts() -> list[list[int]]:
    """Four to each of three questions of different lengths."""
    questions = ["Why?", "And how many?", "Where do small birds go?"]
    asked = [{"messages": [{"role": "user", "content": question}]} for question in questions]
    return [render_prompt(one, tiny_tokenizer()) for one in asked for _ in range(4)]


def samplings(count: int) -> list[Sampling]:
    return [Sampling(temperature=1.0, max_tokens=6, seed=sampling_seed(7, number)) for number in range(count)]


def rolled(asked: list[list[int]], settings: list[Sampling], rows: int) -> list[list[int]]:
    found = roll_out(
        tiny_model().eval(), tiny_tokenizer(), tiny_runtime(), asked, settings, rows=rows, should_stop=lambda: False
    )
    return [completion.ids for completion in found]


def test_the_answers_are_those_that_each_prompt_gets_alone() -> None:
    asked, settings = prompts(), samplings(12)
    alone = [rolled([prompt], [sampling], 1)[0] for prompt, sampling in zip(asked, settings, strict=True)]
    assert rolled(asked, settings, 12) == alone
    assert rolled(asked, settings, 5) == alone
    assert len({tuple(ids) for ids in alone}) == 12


def test_answers_to_one_prompt_have_it_computed_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three prompts, four answers each: three passes, whether the four go along or copy what one has computed."""
    passes = []
    run = Engine.run

    def counted(self: Engine, batch: Any) -> Any:
        if batch.count > 1:
            passes.append(len(batch.requests))
        return run(self, batch)

    monkeypatch.setattr(Engine, "run", counted)
    rolled(prompts(), samplings(12), 12)
    assert len(passes) == 3


def test_a_stop_is_heard_in_the_midst_of_the_answers() -> None:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == 2

    settings = [Sampling(temperature=1.0, max_tokens=40, seed=number) for number in range(12)]
    with pytest.raises(Stopped):
        roll_out(
            tiny_model().eval(), tiny_tokenizer(), tiny_runtime(), prompts(), settings, rows=2, should_stop=should_stop
        )
    assert asked == 2


def test_a_rank_without_prompts_waits_for_the_others() -> None:
    assert rolled([], [], 4) == []
