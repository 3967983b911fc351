"""The evaluation `samples`: what it keeps is what the plain model says, and where it can be read afterwards."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from test_training import Recorder, stage
from tiny_plugin import TINY, write

from nanochat.config import Component
from nanochat.runtime import Runtime
from nanochat.stages.slots import EvalSlot
from nanochat.testing import check_eval, tiny_model, tiny_subject, tiny_tokenizer
from nanochat.text.conversation import render_prompt
from nanochat.text.tokenizer import Tokenizer
from nanochat_plugins.evals.samples import evaluate, repetition
from nanochat_plugins.evals.samples_config import SamplesConfig

PROMPTS = ["The 7 small birds", "A wall", "It rained"]


def kept_by(config: SamplesConfig, **changes: Any) -> list[Mapping[str, Any]]:
    kept: list[Mapping[str, Any]] = []
    evaluate(config, tiny_subject(keep_example=kept.append, **changes))
    return kept


def test_it_keeps_the_contract_of_an_evaluation() -> None:
    check_eval(evaluate, SamplesConfig(prompts=PROMPTS, max_tokens=5))


@pytest.mark.parametrize("chat", [False, True])
def test_a_greedy_sample_is_the_plain_models_likeliest_ids_one_by_one(chat: bool) -> None:
    model, tokenizer = tiny_model().eval(), tiny_tokenizer()
    (sample,) = kept_by(SamplesConfig(prompts=["A wall"], temperatures=[0.0], max_tokens=6, chat=chat), model=model)
    ids = [tokenizer.bos_id, *tokenizer.encode("A wall")]
    if chat:
        ids = render_prompt({"messages": [{"role": "user", "content": "A wall"}]}, tokenizer)
    specials = set(range(tokenizer.vocab_size - 9, tokenizer.vocab_size))
    start, end = len(ids), {tokenizer.bos_id, tokenizer.special_id("<|assistant_end|>")}
    for _ in range(6):
        logits = model(torch.tensor([ids]))[0, -1].detach()
        logits[sorted(specials - end)] = -torch.inf  # a model cannot write whose turn it is
        ids.append(int(logits.argmax()))
        if ids[-1] in end:
            ids.pop()
            break
    assert sample["completion"] == tokenizer.decode(ids[start:])


def test_every_prompt_is_continued_at_every_temperature_and_the_batch_changes_nothing() -> None:
    config = SamplesConfig(prompts=PROMPTS, temperatures=[0.0, 0.8], max_tokens=5)
    together = kept_by(config)
    assert [(s["prompt"], s["temperature"]) for s in together] == [(p, t) for p in PROMPTS for t in (0.0, 0.8)]
    assert kept_by(attrs.evolve(config, rows=1)) == together
    warm = [s["completion"] for s in kept_by(SamplesConfig(prompts=["A wall"], temperatures=[3.0] * 4))]
    assert len(set(warm)) == 4  # each has a seed of its own


def test_ranks_share_the_samples() -> None:
    config = SamplesConfig(prompts=PROMPTS, temperatures=[0.0], max_tokens=4)
    shares = []
    for rank in range(2):

        class Alone(Runtime):
            """A rank whose partner does not answer: nothing is exchanged."""

            def sum(self, values: torch.Tensor) -> torch.Tensor:
                return values

        runtime = Alone(device=torch.device("cpu"), dtype=torch.float32, rank=rank, world_size=2)
        shares.append([s["prompt"] for s in kept_by(config, runtime=runtime)])
    assert shares == [PROMPTS[::2], PROMPTS[1::2]]


def test_of_a_prompt_longer_than_the_context_the_end_is_continued() -> None:
    (sample,) = kept_by(SamplesConfig(prompts=["birds " * 200], temperatures=[0.0], max_tokens=4))
    assert sample["completion"]


@pytest.mark.parametrize(
    "ids, share", [([1, 2, 3], 0.0), ([1, 2, 3, 4, 5], 0.0), ([1] * 8, 4 / 5), ([1, 2, 3, 4, 1, 2, 3, 4], 1 / 5)]
)
def test_repetition_is_the_share_of_runs_of_four_that_were_there_before(ids: list[int], share: float) -> None:
    assert repetition(ids) == pytest.approx(share)


def test_no_prompts_are_refused_when_the_recipe_is_read(tmp_path: Path) -> None:
    from nanochat.recipe.load import load_recipe

    text = TINY.replace('use = "sgd"', 'use = "adamw"').replace('use = "words"', 'use = "pydocs"')
    text = text[: text.index("[stages.sft]")] + '[stages.base.evals.samples]\nuse = "samples"\nprompts = []\n'
    with pytest.raises(Exception, match="prompts is empty"):
        load_recipe(write(tmp_path, text))


def test_samples_of_every_interval_are_kept_and_the_last_ones_are_in_the_report(tmp_path: Path) -> None:
    from nanochat.reporting.evaluations import samples_of

    tokenizer = Tokenizer.train(["to be or not to be, that is the question " * 20], vocab_size=270)
    recorder = Recorder()
    slot = EvalSlot(every=5)
    config = SamplesConfig(prompts=["to be", "or not"], max_tokens=3)
    samples = Component(kind="eval", name="samples", use="samples", revision=1, config=config, slot=slot)
    made = stage(tmp_path, tokenizer, recorder, evals={"samples": samples})
    made.subject = attrs.evolve(made.subject, note=recorder.note)
    made.execute()
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("examples/**/*.jsonl")}
    assert found == {f"examples/{step}samples-0.jsonl" for step in ("", "step_000005/", "step_000010/")}
    lines = [json.loads(line) for line in (tmp_path / "examples/samples-0.jsonl").read_text().splitlines()]
    assert [line["temperature"] for line in lines] == [0.0, 1.0] * 2
    assert [shown["prompt"] for shown in samples_of(tmp_path)] == ["to be", "or not"]
    assert sum(note.startswith("to be →") for note in recorder.notes) == 3
