"""What a request may ask of the engine: penalties, bias, stop strings, log-probabilities, tools that are slow."""

import threading
import time
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engine import (
    END,
    MODEL,
    QUESTION,
    SPECIAL,
    TOKENIZER,
    Echo,
    Scripted,
    call,
    make_engine,
    output,
    random_prompt,
)

from nanochat.errors import InputError
from nanochat.inference import tool_call
from nanochat.inference.penalties import adjusted
from nanochat.inference.sampling import Sampling
from nanochat.inference.stop_text import StopText
from nanochat.inference.transcript import Transcript

# Penalties, against transformers' processors and OpenAI's formula


def test_the_repetition_penalty_is_that_of_transformers() -> None:
    processor = pytest.importorskip("transformers").RepetitionPenaltyLogitsProcessor(1.7)
    logits, ids = torch.randn(1, 30), [3, 4, 4, 29]
    expected = processor(torch.tensor([ids]), logits.clone())
    torch.testing.assert_close(adjusted(logits, [Sampling(repetition_penalty=1.7)], [ids], [2]), expected)


def test_presence_and_frequency_count_the_answer_alone_and_a_bias_is_added() -> None:
    logits = torch.zeros(2, 6)
    sampling = Sampling(presence_penalty=0.5, frequency_penalty=0.25, logit_bias={5: -100.0, 1: 2.0})
    found = adjusted(logits, [Sampling(), sampling], [[0, 1], [0, 1, 2, 2, 3]], [1, 2])
    assert found.tolist() == [[0.0] * 6, [0.0, 2.0, -1.0, -0.75, 0.0, -100.0]]


@pytest.mark.parametrize("broken", ["a tokenizer that gives the text up", "a machine without a thread left"])
def test_a_result_that_cannot_be_had_costs_its_own_request_alone(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise (
            ValueError("too long for the pattern") if "tokenizer" in broken else RuntimeError("can't start new thread")
        )

    engine = make_engine(Scripted([*QUESTION, *call("1+1"), *TOKENIZER.encode(" so"), END]), tools=[Echo({"1+1": "2"})])
    place: Any = (Transcript, "encode_result") if "tokenizer" in broken else (threading.Thread, "start")
    with monkeypatch.context() as patch:
        patch.setattr(*place, fail)
        (done,) = engine.generate([QUESTION], Sampling())
    assert [part["type"] for part in done.parts] == ["python", "text"] and done.finish_reason == "stop"


def test_a_bias_of_an_id_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match=r"E602.*logit_bias names the token 9999"):
        make_engine().submit(QUESTION, Sampling(logit_bias={9999: 1.0}))


def test_a_bias_leads_an_answer_but_not_past_the_grammar() -> None:
    forged = SPECIAL["<|output_start|>"]
    engine = make_engine(Scripted(QUESTION))
    led, forging = engine.generate(
        [QUESTION] * 2,
        [Sampling(max_tokens=3, logit_bias={66: 50.0}), Sampling(max_tokens=3, logit_bias={forged: 100.0})],
    )
    assert led.ids == [66] * 3
    assert forged not in forging.ids


def test_ignore_eos_goes_on_to_max_tokens() -> None:
    engine = make_engine(Scripted([*QUESTION, END, END]))
    done = engine.generate([QUESTION], Sampling(max_tokens=5, ignore_eos=True))[0]
    assert (len(done.ids), END in done.ids, done.finish_reason) == (5, False, "length")


# Stop strings

PIECES = st.lists(st.text("ab", max_size=4), max_size=8)


@given(PIECES, st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3))
def test_what_is_shown_is_the_text_before_the_first_stop_string_however_it_is_cut(
    pieces: list[str], stops: list[str]
) -> None:
    watched = StopText(stops)
    shown, certain = "", "".join(pieces)
    for count, piece in enumerate(pieces):
        shown += watched.push(piece)
        assert not any(stop in shown for stop in stops), count
    places = [certain.find(stop) for stop in stops if stop in certain]
    assert watched.ended == bool(places)
    expected = certain[: min(places)] if places else certain
    if places:
        # A stop string that is complete wins over one that begins earlier and is completed later.
        assert certain.startswith(shown) and len(shown) >= len(expected)
    else:
        assert shown + watched.flush() == expected


def test_an_answer_ends_before_a_stop_string_that_several_tokens_spell() -> None:
    script = [*QUESTION, *b"one stXX two"]
    engine = make_engine(Scripted(script))
    request = engine.submit(QUESTION, Sampling(stop=("zz", "XX t"), logprobs=0))
    shown, told = [], []
    while request.finish_reason is None:
        engine.step()
        shown += [part["text"] for part in request.transcript.take()]
        told += request.take_told()
        assert "X" not in "".join(shown)
    assert ("".join(shown), request.finish_reason) == ("one st", "stop")
    assert TOKENIZER.decode([each.id for each in told]) == "one st"
    assert request.completion().text == "one st" and list(request.completion().told) == told


def test_a_beginning_of_a_stop_string_that_never_comes_is_shown_at_the_end() -> None:
    done = make_engine(Scripted([*QUESTION, *b"so X", END])).generate([QUESTION], Sampling(stop=("XX",)))[0]
    assert (done.text, done.finish_reason) == ("so X", "stop")


# Log-probabilities, against the plain model


@torch.no_grad()
def test_log_probabilities_of_prompt_and_answer_are_those_of_the_plain_model() -> None:
    prompt = random_prompt(45, 1)
    for chunk, length in ((16, 45), (256, 45), (44, 45), (16, 1), (16, 2)):
        sampling = Sampling(max_tokens=6, logprobs=3, prompt_logprobs=True, temperature=1.0, seed=1)
        done = make_engine(chunk=chunk).generate([prompt[:length]], sampling)[0]
        ids = [*prompt[:length], *done.ids]
        expected = MODEL(torch.tensor([ids]))[0].log_softmax(-1)
        told = [*done.prompt_told, *done.told]
        assert [each.id for each in told] == ids[: len(told)] and len(done.prompt_told) == length
        assert told[0].logprob is None
        for place, each in enumerate(told[1:]):
            assert each.logprob == pytest.approx(float(expected[place, each.id]), abs=1e-4)
            best = expected[place].topk(3)
            assert [token for token, _ in each.top] == best.indices.tolist()
            assert [value for _, value in each.top] == pytest.approx(best.values.tolist(), abs=1e-4)


def test_a_prompt_can_be_told_of_without_an_answer_even_one_that_fills_the_context() -> None:
    engine = make_engine(rows=2, chunk=50)
    prompts = [random_prompt(length, length) for length in (1, 2, 100, 160)]
    answering = engine.submit(random_prompt(30, 1), Sampling(max_tokens=20))
    done = engine.generate(prompts, Sampling(max_tokens=0, prompt_logprobs=True))
    for prompt, each in zip(prompts, done, strict=True):
        assert (each.ids, each.finish_reason, len(each.prompt_told)) == ([], "length", len(prompt))
    while engine.scheduler.busy:
        engine.step()
    assert len(answering.completion().ids) == 20


def test_a_prompt_of_one_id_is_told_of_beside_those_who_are_being_answered() -> None:
    engine = make_engine(rows=2)
    answering = engine.submit(random_prompt(5, 1), Sampling(max_tokens=20))
    engine.step()
    told = engine.submit([7], Sampling(max_tokens=3, prompt_logprobs=True))
    while engine.scheduler.busy:
        engine.step()
    assert [each.id for each in told.completion().prompt_told] == [7]
    assert len(told.completion().ids) == 3 and len(answering.completion().ids) == 20


@given(lengths=st.lists(st.integers(1, 100), min_size=1, max_size=4), arrivals=st.lists(st.integers(0, 12), min_size=5))
@settings(max_examples=15, deadline=None)
def test_with_each_row_alone_the_neighbours_change_no_bit(lengths: list[int], arrivals: list[int]) -> None:
    """Log-probabilities to the last bit, whoever is answered beside them, in whichever slot."""
    sampling = Sampling(max_tokens=20, logprobs=3, temperature=1.0, seed=5)
    deterministic: Any = {"chunk": 32, "reuse": False, "alone": True, "patient": False}
    prompt = random_prompt(70, 1)
    expected = make_engine(rows=1, **deterministic).generate([prompt], sampling)[0]
    engine = make_engine(rows=3, **deterministic)
    waiting = [(arrivals[0], prompt), *zip(arrivals[1:], (random_prompt(n, n) for n in lengths), strict=False)]
    requests = []
    for step in range(13):
        for _, each in [one for one in waiting if one[0] == step]:
            requests.append(engine.submit(each, sampling))
        engine.step()
    while engine.scheduler.busy:
        engine.step()
    found = next(each.completion() for each in requests if each.ids[:70] == prompt)
    assert found.ids == expected.ids and found.told == expected.told


# Tools that take their time


class Slow(Echo):
    """A tool that answers when it is let."""

    def __init__(self) -> None:
        super().__init__({})
        self.let = threading.Event()

    def run(self, code: str) -> str | None:
        self.let.wait(30)
        return "late"


def test_a_tool_that_takes_its_time_holds_up_nobody_else() -> None:
    tool = Slow()
    script = Scripted([*QUESTION, *call("x"), *output("late"), *b"ok", END])
    engine = make_engine(script, tools=[tool], rows=2, patient=False)
    waiting = engine.submit(QUESTION, Sampling())
    while waiting.call is None:
        engine.step()
    other = engine.generate([[65]], Sampling(max_tokens=20))[0]
    assert len(other.ids) == 20 and waiting.finish_reason is None
    tool.let.set()
    while waiting.finish_reason is None:
        engine.step()
    assert waiting.completion().text == "ok"


def test_a_patient_engine_computes_the_same_rows_together_however_slow_a_tool_is() -> None:
    """So that a run that is resumed rounds as the undisturbed one did."""
    seen = []
    for seconds in (0.0, 0.05):
        tool = Slow()
        threading.Timer(seconds, tool.let.set).start()
        script = Scripted([*QUESTION, *call("x"), *output("late"), *b"ok", END])
        engine = make_engine(script, tools=[tool], rows=2)
        requests = [engine.submit(QUESTION, Sampling()), engine.submit([65], Sampling(max_tokens=40))]
        fed = []
        while engine.scheduler.busy:
            engine.step()
            fed.append([request.cached for request in requests])
        seen.append(fed)
    assert seen[0] == seen[1]


def test_a_tool_that_hangs_is_given_up_and_one_whose_request_was_cancelled_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tool: Any = Slow()
    monkeypatch.setattr(tool_call.ToolCall.__init__, "__defaults__", (0.1,))
    engine = make_engine(Scripted([*QUESTION, *call("x"), *b"on", END]), tools=[tool], rows=1, patient=False)
    cancelled = engine.submit(QUESTION, Sampling())
    while cancelled.call is None:
        engine.step()
    engine.cancel(cancelled)
    assert not engine.scheduler.busy
    began = time.monotonic()
    done = engine.generate([QUESTION], Sampling())[0]
    tool.let.set()
    assert time.monotonic() - began < 20
    assert (done.text, [part["type"] for part in done.parts]) == ("on", ["python", "text"])
