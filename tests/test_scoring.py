"""Scores of continuations: against float64 one sequence at a time, and against transformers for a classic model."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core_bundle import in_float64
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.exchange import huggingface
from nanochat.exchange.weights import Weights
from nanochat.inference.scoring import Continuations, Score, Scorer, common_length
from nanochat.model.gpt_config import GPTConfig
from nanochat.runtime import local_runtime
from nanochat.testing import tiny_model, tiny_tokenizer

CLASSIC: dict[str, Any] = {
    "depth": 3, "dim": 48, "head_dim": 12, "n_head": 4, "n_kv_head": 2, "sequence_len": 64, **GPTConfig.BEFORE,
    "vocab_multiple": 64,
}  # fmt: skip


def some_examples(count: int, *, longest: int = 28) -> list[Continuations]:
    """Sequences that share a beginning, some of them the same, some only one id longer than it."""
    rng, found = random.Random(3), []
    for _ in range(count):
        shared = [rng.randrange(290) for _ in range(rng.randint(1, longest - 8))]
        whole = [shared + [rng.randrange(290) for _ in range(rng.randint(1, 8))] for _ in range(rng.randint(1, 4))]
        sequences = [np.array(ids) for ids in whole]
        found.append(Continuations.of(sequences, [rng.randrange(1, len(ids)) for ids in sequences]))
    return found


def check(model: torch.nn.Module, examples: list[Continuations], scores: list[list[Score]], tolerance: float) -> None:
    """Each score against this model's logits of the sequence alone."""
    for example, found in zip(examples, scores, strict=True):
        for ids, start, score in zip(example.sequences, example.starts, found, strict=True):
            with torch.no_grad():
                given = model(torch.tensor(ids)[None])
            logits = getattr(given, "logits", given)[0, start - 1 : -1].double()
            wanted = torch.tensor(ids[start:])
            nats = -logits.log_softmax(-1)[torch.arange(len(wanted)), wanted].sum()
            assert score.nats == pytest.approx(float(nats), abs=tolerance)
            assert score.tokens == len(wanted)
            assert score.greedy == bool((logits.argmax(-1) == wanted).all())


@pytest.mark.parametrize("options", [{}, {"sequence_len": 8}, {"n_kv_head": 1, "smear": False}, {"tied": True}])
def test_scores_are_those_of_each_sequence_alone_in_float64(options: dict[str, Any]) -> None:
    model, examples = tiny_model(**options).eval(), some_examples(25)
    check(in_float64(model), examples, Scorer(model, local_runtime(), tokens=200).score(examples), 1e-4)


def test_scores_of_a_classic_model_are_the_log_likelihoods_that_transformers_finds(tmp_path: Path) -> None:
    from transformers import NanoChatForCausalLM

    ours, examples = tiny_model(**CLASSIC).eval(), some_examples(25)
    weights = Weights(config=ours.config, tensors=ours.state_dict(), tokenizer=tiny_tokenizer())
    huggingface.write(weights, tmp_path / "hf")
    theirs = NanoChatForCausalLM.from_pretrained(tmp_path / "hf").eval()
    check(theirs, examples, Scorer(ours, local_runtime(), tokens=300).score(examples), 1e-4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=7), min_size=1, max_size=4), st.integers(2, 5))
def test_what_is_cut_keeps_the_end_of_each_sequence_in_order(endings: list[list[int]], longest: int) -> None:
    sequences = [np.array([7, 7, *ending]) for ending in endings]
    starts = [len(ids) - 1 for ids in sequences]
    parts = Continuations.of(sequences, starts).cut(longest)
    kept = [(ids.tolist(), start) for part in parts for ids, start in zip(part.sequences, part.starts, strict=True)]
    assert kept == [(ids[-longest:].tolist(), min(len(ids), longest) - 1) for ids in sequences]


@pytest.mark.parametrize("starts", [[0, 3], [3, 9], [4, 3]])
def test_what_cannot_be_scored_is_refused(starts: list[int]) -> None:
    with pytest.raises(ValueError, match="cannot be scored"):
        Continuations.of([np.arange(4), np.arange(9)], starts)


def test_sequences_that_begin_differently_are_refused() -> None:
    assert common_length([np.array([1, 2]), np.array([2, 2])]) == 0
    with pytest.raises(ValueError, match="begin differently"):
        Continuations.of([np.array([1, 2]), np.array([2, 2])], [1, 1])
