"""What is cached serves those who may share it, is computed once, and stays until it is the oldest."""

from typing import Any

import pytest
import torch
from test_engine import (
    MODEL,
    QUESTION,
    Echo,
    Scripted,
    call,
    make_engine,
    make_model,
    output,
    random_prompt,
    uncached_greedy,
)
from torch import Tensor

from nanochat.inference.engine import Engine
from nanochat.inference.sampling import Sampling
from nanochat.inference.slots import common_prefix


class Counting:
    """The model, and how many ids it was fed."""

    def __init__(self) -> None:
        self.config, self.dtype, self.fed = MODEL.config, MODEL.dtype, 0

    def hidden(self, ids: Tensor, cache: Any, *, places: Any = None) -> Tensor:
        self.fed += ids.numel()
        return MODEL.hidden(ids, cache, places=places)

    def logits(self, hidden: Tensor) -> Tensor:
        return MODEL.logits(hidden)


def counting_engine(**changes: Any) -> tuple[Engine, Counting]:
    model = Counting()
    return make_engine(model, **changes), model


def test_a_second_turn_computes_only_what_is_new() -> None:
    engine, model = counting_engine(rows=2)
    first = engine.generate([random_prompt(40, 1)], Sampling(max_tokens=10))[0]
    prompt = [*random_prompt(40, 1), *first.ids, *random_prompt(20, 2)]
    model.fed = 0
    second = engine.generate([prompt], Sampling(max_tokens=5))[0]
    assert second.cached_tokens == 49  # the last id of an answer is written and never fed
    assert model.fed == 70 - 49 + 4
    assert second.ids == uncached_greedy(prompt, 5)


def test_of_several_answers_to_one_prompt_the_prompt_is_computed_once() -> None:
    engine, model = counting_engine(rows=8, chunk=16)
    prompt = random_prompt(100, 3)
    samplings = [Sampling(temperature=1.0, seed=seed, max_tokens=3) for seed in range(8)]
    together = engine.generate([prompt] * 8, samplings)
    assert model.fed <= 100 + 8 * 3 + 7
    for answer, sampling in zip(together, samplings, strict=True):
        assert answer.ids == make_engine(rows=1).generate([prompt], sampling)[0].ids


def test_nothing_is_shared_across_salts_nor_where_reuse_is_off() -> None:
    prompt = random_prompt(60, 4)
    engine = make_engine(rows=3)
    for salt, cached in (("anna", 0), ("bob", 0), ("anna", 59), ("bob", 59)):
        request = engine.submit(prompt, Sampling(max_tokens=2), salt=salt)
        while request.finish_reason is None:
            engine.step()
        assert request.completion().cached_tokens == cached
    off = make_engine(rows=3, reuse=False)
    assert [off.generate([prompt], Sampling(max_tokens=2))[0].cached_tokens for _ in range(2)] == [0, 0]


def test_the_conversation_left_longest_ago_gives_way() -> None:
    engine = make_engine(rows=2)
    prompts = [random_prompt(50, seed) for seed in (5, 6, 7)]

    def cached(prompt: list[int]) -> int:
        return engine.generate([prompt], Sampling(max_tokens=1))[0].cached_tokens

    assert [cached(prompts[each]) for each in (0, 1, 0, 2, 0, 1)] == [0, 0, 49, 0, 49, 0]


def test_a_few_common_words_do_not_cost_a_long_conversation_its_slot() -> None:
    engine = make_engine(rows=2)
    long = random_prompt(100, 8)
    other = [*long[:20], *random_prompt(30, 9)]
    samplings = Sampling(max_tokens=1)
    found = [engine.generate([prompt], samplings)[0].cached_tokens for prompt in (long, other, long)]
    assert found == [0, 20, 99]


def test_weights_that_were_changed_make_what_is_cached_worthless() -> None:
    model = make_model()
    engine = make_engine(model, rows=1)
    prompt = random_prompt(60, 1)
    engine.generate([prompt], Sampling(max_tokens=5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.tensor([prompt])).square().mean().backward()
    optimizer.step()
    again = engine.generate([prompt], Sampling(max_tokens=5))[0]
    assert again.cached_tokens == 0
    assert again.ids == make_engine(model, rows=1).generate([prompt], Sampling(max_tokens=5))[0].ids
    assert engine.generate([prompt], Sampling(max_tokens=5))[0].cached_tokens == 59
    engine.forget()
    assert engine.generate([prompt], Sampling(max_tokens=5))[0].cached_tokens == 0


def test_a_forced_result_is_reused_with_its_turn() -> None:
    script = [*QUESTION, *call("6*7"), *output("42"), 66, 67]
    engine = make_engine(Scripted(script), tools=[Echo({"6*7": "42"})])
    first = engine.generate([QUESTION], Sampling(max_tokens=len(script) - len(QUESTION)))[0]
    again = engine.generate([[*QUESTION, *first.ids, 65]], Sampling(max_tokens=1))[0]
    assert again.cached_tokens == len(script) - 1


@pytest.mark.parametrize("limit", [0, 1, 63, 64, 65, 127, 128, 200])
@pytest.mark.parametrize("differs", [0, 1, 64, 100, 129, 200])
def test_the_common_prefix_ends_at_the_first_difference_or_the_limit(limit: int, differs: int) -> None:
    a = torch.arange(200).tolist()
    b = [*a[:differs], *([-1] * (200 - differs))]
    assert common_prefix(a, b, limit) == min(limit, differs)
