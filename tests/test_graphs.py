"""Decoding by steps of fixed shapes, as CUDA graphs have them: the ids of the plain model, and what becomes of a graph
that cannot be had. On a CPU a step that runs again stands for a graph; a GPU, where there is one, captures them.
"""

import gc
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from nanochat.inference import grammar, graphs, kv, penalties, sampler
from nanochat.inference.engine import Engine
from nanochat.inference.grammar import Grammar
from nanochat.inference.graphs import Capture, FixedView, Graphs, Step, computed_again
from nanochat.inference.int8 import quantised
from nanochat.inference.kv import KVCache
from nanochat.inference.penalties import adjusted
from nanochat.inference.request import Request
from nanochat.inference.sampler import sample
from nanochat.inference.sampling import Sampling
from nanochat.model.gpt import GPT
from nanochat.model.gpt_config import GPTConfig
from nanochat.runtime import Runtime, local_runtime
from nanochat.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train(["how many r are in strawberry? the cat sat on the mat " * 8], vocab_size=290)
CONTEXT, WINDOW = 640, 128
CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")


def make_model(dtype: torch.dtype = torch.float32, **changes: Any) -> GPT:
    """Every switch on, every parameter at work; windows short enough to be copied from a long reach."""
    torch.manual_seed(0)
    shape = {"depth": 3, "dim": 48, "head_dim": 12, "n_head": 4, "n_kv_head": 2, "sequence_len": CONTEXT}
    model = GPT(GPTConfig(**(shape | {"vocab_size": TOKENIZER.vocab_size, "short_window": 0.2} | changes)), dtype)
    assert set(model.config.windows()) <= {WINDOW, CONTEXT}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


MODEL = make_model()


def prompt_of(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (length,), generator=generator).tolist()


def engine_with(capture: Capture, runtime: Runtime | None = None, **changes: Any) -> Engine:
    engine = Engine(MODEL, TOKENIZER, runtime or local_runtime(), **({"chunk": 64} | changes))
    engine.graphs = Graphs(MODEL, engine.cache, engine.runtime, capture)
    return engine


@torch.no_grad()
@pytest.mark.parametrize("side_by_side", [True, False])
@pytest.mark.parametrize("reach", [256, 512, CONTEXT])
def test_a_fixed_view_gives_the_plain_models_hidden_states_whatever_lies_in_other_rows(
    reach: int, side_by_side: bool
) -> None:
    cache = KVCache(MODEL, slots=5, positions=CONTEXT, device=CPU)
    for held in (*cache.k, *cache.v):
        held.normal_()
    rows = {0: prompt_of(reach, seed=1), 2: prompt_of(reach // 2, seed=2), 3: prompt_of(1, seed=3)}
    fed = torch.tensor([[0, 0, CONTEXT, -1, row if side_by_side else 0] for row in range(4)])
    places = dict(zip(rows, rows if side_by_side else range(4), strict=False))
    for slot, ids in rows.items():
        if before := ids[:-1]:
            MODEL.hidden(torch.tensor([before]), cache.view([slot], [0], [-1], len(before)))
        fed[places[slot]] = torch.tensor([ids[-1], len(before), len(before), before[-1] if before else -1, slot])
    untouched = [held[1, :, :CONTEXT].clone() for held in cache.k]
    view = FixedView(cache, fed.T.contiguous(), torch.arange(reach), side_by_side=side_by_side)
    hidden = MODEL.hidden(view.ids, view)[:, 0]
    for slot, ids in rows.items():
        torch.testing.assert_close(hidden[places[slot]], MODEL.hidden(torch.tensor([ids]))[0, -1], atol=1e-5, rtol=1e-5)
    assert all(torch.equal(held[1, :, :CONTEXT], before) for held, before in zip(cache.k, untouched, strict=True))


@given(st.data())
@settings(max_examples=8, deadline=None)
def test_ids_are_the_plain_models_whatever_comes_and_goes(data: st.DataObject) -> None:
    engine = engine_with(computed_again, rows=data.draw(st.integers(1, 9)))
    requests: list[Request] = []
    for number in range(data.draw(st.integers(1, 6))):
        prompt = prompt_of(data.draw(st.sampled_from([1, 3, 120, 250, 254, 500, 630])), seed=number)
        if before := data.draw(st.sampled_from([None, *requests])):  # goes on from it: some of it is in the cache
            prompt = [*before.ids, 65][:630]
        requests.append(engine.submit(prompt, Sampling(max_tokens=data.draw(st.integers(1, 12)), ignore_eos=True)))
        for _ in range(data.draw(st.integers(0, 9))):
            engine.step()
        if data.draw(st.integers(0, 3)) == 0:
            engine.cancel(data.draw(st.sampled_from(requests)))
    while engine.scheduler.busy:
        engine.step()
    assert engine.graphs is not None and engine.graphs.usable
    for request in requests:
        plain = Engine(MODEL, TOKENIZER, local_runtime(), rows=1, reuse=False)
        settings_ = attrs.evolve(request.sampling, max_tokens=max(1, len(request.ids) - request.prompt_tokens))
        (expected,) = plain.generate([request.ids[: request.prompt_tokens]], settings_)
        written = request.ids[request.prompt_tokens :]
        assert written == expected.ids[: len(written)]


def test_every_shape_is_captured_once_and_replayed_from_then_on() -> None:
    captured, replayed = list[Step](), list[Step]()

    def capture(step: Step) -> tuple[Callable[[], object], Tensor]:
        captured.append(step)
        again, result = computed_again(step)
        return lambda: (replayed.append(step), again()), result  # type: ignore[func-returns-value]

    engine = engine_with(capture, rows=6)
    assert engine.graphs is not None

    def ask(count: int, length: int, tokens: int) -> None:
        engine.generate(
            [prompt_of(length, seed) for seed in range(count)], Sampling(max_tokens=tokens, ignore_eos=True)
        )

    ask(5, 12, 9)
    assert list(engine.graphs.graphs) == [(6, 256, True)], "5 rows are 8, and there are 6"
    assert len(replayed) == 8, "the first of 9 ids comes of the prompt, and the first step is replayed once, as a check"
    ask(5, 12, 4)
    assert len(captured) == 1
    ask(1, 300, 3)
    assert set(engine.graphs.graphs) > {(6, 256, True)} and {shape[1] for shape in engine.graphs.graphs} == {256, 512}


def test_all_that_a_graph_reads_is_kept_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay refers to memory, not to tensors."""
    read = list["weakref.ref[Tensor]"]()

    class Watched(FixedView):
        def __init__(self, cache: KVCache, fed: Tensor, seen: Tensor, *, side_by_side: bool) -> None:
            read.extend(map(weakref.ref, (fed, seen)))
            super().__init__(cache, fed, seen, side_by_side=side_by_side)

    def recorded(step: Step) -> tuple[Callable[[], object], Tensor]:
        result = step()
        first = result.clone()
        return lambda: result.copy_(first), result

    monkeypatch.setattr(graphs, "FixedView", Watched)
    engine = engine_with(recorded, rows=2)
    engine.generate([prompt_of(4, seed) for seed in range(2)], Sampling(max_tokens=4, ignore_eos=True))
    gc.collect()
    assert engine.graphs is not None and engine.graphs.usable and len(engine.graphs.graphs) == 1
    assert len(read) == 4 and all(each() is not None for each in read)


def test_a_lone_row_in_a_late_slot_is_computed_alone() -> None:
    engine = engine_with(computed_again, rows=16)
    requests = [engine.submit(prompt_of(4, seed), Sampling(max_tokens=5, ignore_eos=True)) for seed in range(12)]
    engine.step()
    for request in requests[:11]:
        engine.cancel(request)
    while engine.scheduler.busy:
        engine.step()
    assert engine.graphs is not None and list(engine.graphs.graphs) == [(1, 256, False)]
    plain = Engine(MODEL, TOKENIZER, local_runtime()).generate([prompt_of(4, 11)], requests[11].sampling)
    assert requests[11].completion().ids == plain[0].ids


def test_log_probabilities_are_told_of_the_rows_that_ask() -> None:
    prompts = [prompt_of(30, seed) for seed in range(3)]
    samplings = [Sampling(max_tokens=6, ignore_eos=True, logprobs=number) for number in (None, 2, 0)]
    found = engine_with(computed_again, rows=4).generate(prompts, samplings)
    plain = Engine(MODEL, TOKENIZER, local_runtime(), chunk=64, rows=4).generate(prompts, samplings)
    for one, other in zip(found, plain, strict=True):
        assert [told.id for told in one.told] == [told.id for told in other.told]
        assert [told.logprob for told in one.told] == pytest.approx([told.logprob for told in other.told], abs=1e-4)


def _raises(step: Step) -> tuple[Callable[[], object], Tensor]:
    raise RuntimeError("operation not permitted when stream is capturing\nand more")


def _fails_to_end(step: Step) -> tuple[Callable[[], object], Tensor]:
    try:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")
    finally:
        raise RuntimeError("operation failed due to a previous error during capture")


def _lies(step: Step) -> tuple[Callable[[], object], Tensor]:
    again, result = computed_again(step)
    return lambda: (again(), result.add_(1)), result


def _computes_nothing(step: Step) -> tuple[Callable[[], object], Tensor]:
    """As a capture on another device's stream does: what the step computed stays, and nothing is computed anew."""
    return lambda: None, step()


def _second_one_lies() -> Capture:
    captures = iter([computed_again, _lies])
    return lambda step: next(captures)(step)


@pytest.mark.parametrize(
    ("capture", "said"),
    [
        (_raises, "not permitted when stream is capturing"),
        (_fails_to_end, "not permitted when stream is capturing"),
        (_lies, "something else"),
        (_computes_nothing, "something else"),
        (_second_one_lies(), "something else"),
    ],
)
def test_a_graph_that_fails_or_is_wrong_is_given_up_said_once_and_costs_no_answer(capture: Capture, said: str) -> None:
    notes: list[str] = []
    engine = engine_with(capture, attrs.evolve(local_runtime(), note=notes.append), rows=3)
    prompts, sampling = [prompt_of(252, seed) for seed in range(4)], Sampling(max_tokens=9, ignore_eos=True)
    found = engine.generate(prompts, sampling)
    plain = Engine(MODEL, TOKENIZER, local_runtime(), chunk=64, rows=3).generate(prompts, sampling)
    assert [one.ids for one in found] == [one.ids for one in plain]
    assert len(notes) == 1 and said in notes[0] and "and more" not in notes[0]


def _compilations() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests have imported, the standard library's distutils, setuptools would else refuse."""
    monkeypatch.setenv("SETUPTOOLS_USE_DISTUTILS", "stdlib")


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("int8", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_one_row_is_decoded_by_a_step_that_was_compiled_before_and_writes_what_the_operators_write(int8: bool) -> None:
    model = quantised(make_model(depth=2)) if int8 else make_model(depth=2)
    notes: list[str] = []
    engine = Engine(model, TOKENIZER, attrs.evolve(local_runtime(), note=notes.append), rows=3, compiled=True)
    assert engine.graphs is not None
    torch._dynamo.reset()  # what others have compiled of the same code
    before = _compilations()
    engine.graphs.warm()
    warmed = _compilations()
    assert not notes
    assert 1 <= warmed - before <= 2, "with short windows read whole, and copied from a long reach"
    plain = Engine(model, TOKENIZER, local_runtime(), rows=1, reuse=False)
    sampling = Sampling(max_tokens=9, ignore_eos=True, logprobs=0)
    for length in (1, 250, 500, 630):  # the second goes from one reach to the next
        prompt = prompt_of(length, seed=length)
        (found,), (expected,) = engine.generate([prompt], sampling), plain.generate([prompt], sampling)
        assert found.ids == expected.ids
        told = [[one.logprob for one in each.told] for each in (found, expected)]
        assert told[0] == pytest.approx(told[1], abs=0.1 if int8 else 1e-4)
    assert _compilations() == warmed and engine.graphs.usable
    assert {shape[:2] for shape in engine.graphs.graphs} == {(1, 256), (1, 512), (1, CONTEXT)}
    engine.generate([prompt_of(4, seed) for seed in range(3)], sampling)
    assert {shape[0] for shape in engine.graphs.graphs} == {1}, "on a CPU several rows are not worth it"


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_several_rows_are_compiled_once_for_any_number_of_them() -> None:
    model = make_model(depth=1)
    engine = Engine(model, TOKENIZER, local_runtime(), rows=9, compiled=True)
    assert engine.graphs is not None
    engine.graphs.most_rows = 9  # as on a GPU
    engine.graphs.warm()
    warmed = _compilations()
    prompts, sampling = [prompt_of(5 + seed, seed) for seed in range(9)], Sampling(max_tokens=4, ignore_eos=True)
    plain = Engine(model, TOKENIZER, local_runtime(), rows=9).generate(prompts, sampling)
    for count in (2, 3, 5, 9, 1):
        found = engine.generate(prompts[:count], sampling)
        assert [one.ids for one in found] == [one.ids for one in plain[:count]]
    assert _compilations() == warmed and engine.graphs.usable
    assert {shape[0] for shape in engine.graphs.graphs} == {1, 2, 4, 8, 9}


@pytest.mark.usefixtures("compiler")
def test_where_nothing_can_be_compiled_operators_answer_and_it_is_said() -> None:
    notes: list[str] = []
    model = make_model(depth=1)
    engine = Engine(model, TOKENIZER, attrs.evolve(local_runtime(), note=notes.append), rows=1, compiled=True)
    assert engine.graphs is not None
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}):
        engine.graphs.warm()
    assert not engine.graphs.usable
    assert len(notes) == 1 and "operator by operator" in notes[0] and "no-such-compiler" in notes[0]
    (found,) = engine.generate([prompt_of(4, 1)], Sampling(max_tokens=3, ignore_eos=True))
    assert len(found.ids) == 3


def test_a_model_that_is_broken_is_no_fault_of_its_graph() -> None:
    broken = make_model()
    with torch.no_grad():
        broken.head.weight.fill_(torch.nan)
    engine = Engine(broken, TOKENIZER, local_runtime(), rows=2)
    engine.graphs = Graphs(broken, engine.cache, engine.runtime, computed_again)
    engine.generate([[65]], Sampling(max_tokens=3, ignore_eos=True))
    assert engine.graphs.usable


SETTINGS = [
    Sampling(),
    Sampling(temperature=0.8, top_k=5, top_p=0.9, min_p=0.01, seed=1),
    Sampling(temperature=1.2, presence_penalty=0.5, frequency_penalty=0.5, repetition_penalty=1.2, logit_bias={3: 1.0}),
]


def test_a_step_asks_a_gpu_for_no_number_before_its_ids_and_mixes_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a mode of torch that knows shapes and devices without having them: what needs a value, as .item(), raises."""

    def shaped(values: Sequence[object], device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
        like = torch.tensor(values, dtype=dtype, device="cpu")
        return torch.empty(like.shape, dtype=like.dtype, device=device)

    for module in (kv, sampler, penalties, grammar):
        monkeypatch.setattr(module, "on_device", shaped)
    states, endless = [grammar.PLAIN, grammar.TEXT, grammar.TEXT], [False, True, False]
    rules = Grammar(TOKENIZER, [], vocab_size=TOKENIZER.vocab_size, device=CPU)
    written = [[1, 2, 3, 1]] * len(SETTINGS)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"), torch.inference_mode():
        device = torch.device("cuda")
        model = GPT(MODEL.config)
        cache = KVCache(model, slots=4, positions=CONTEXT, device=device)
        rules._bars = torch.empty(rules._bars.shape)
        for reach in (256, 512):
            view = FixedView(cache, torch.zeros(5, 4, dtype=torch.int64), torch.arange(reach), side_by_side=reach < 512)
            logits = model.logits(model.hidden(view.ids, view)[:, -1])[shaped([0, 1, 3], device)]
            assert logits.shape == (3, TOKENIZER.vocab_size)
        logits = adjusted(logits, SETTINGS, written, [1] * len(SETTINGS))
        ids = sample(logits, rules.barred(states, endless), SETTINGS, [0.5] * len(SETTINGS))
        assert ids.shape == (3,) and ids.device.type == "cuda"
        chunk = cache.view([0, 2, 3], [131, 150, 20], [1, 2, 3], 5)
        assert model.hidden(torch.zeros(3, 5, dtype=torch.int64), chunk).shape == (3, 5, 48)


def on_gpu(dtype: str, number: int = 0, **changes: Any) -> Engine:
    runtime = local_runtime(device=f"cuda:{number}", dtype=dtype)
    model = make_model(runtime.dtype).to(runtime.device, runtime.dtype)
    return Engine(model, TOKENIZER, runtime, **({"rows": 4} | changes))


@needs_cuda
@pytest.mark.parametrize("number", range(max(1, torch.cuda.device_count())))
@pytest.mark.parametrize(("dtype", "close"), [("float32", 1e-4), ("bfloat16", 0.05)])
def test_a_gpu_writes_by_graphs_what_it_writes_operator_by_operator(dtype: str, close: float, number: int) -> None:
    by_graphs, plain = on_gpu(dtype, number, graphs=True), on_gpu(dtype, number)
    prompts = [prompt_of(length, seed=length) for length in (1, 40, 120, 250, 400, 500)]
    sampling = Sampling(max_tokens=60, ignore_eos=True, logprobs=0)
    found, expected = by_graphs.generate(prompts, sampling), plain.generate(prompts, sampling)
    assert by_graphs.graphs is not None and by_graphs.graphs.usable and len(by_graphs.graphs.graphs) >= 2
    for one, other in zip(found, expected, strict=True):
        if dtype == "float32":
            assert one.ids == other.ids
        assert one.told[1].logprob == pytest.approx(other.told[1].logprob, abs=close)  # the first a graph computed


@needs_cuda
def test_engines_that_share_a_gpu_capture_one_after_the_other() -> None:
    engines = [on_gpu("float32", graphs=True) for _ in range(3)]
    prompts, sampling = [prompt_of(40, seed) for seed in range(4)], Sampling(max_tokens=20, ignore_eos=True)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda engine: engine.generate(prompts, sampling), engines))
    for engine, completions in zip(engines, found, strict=True):
        assert engine.graphs is not None and engine.graphs.usable
        assert [one.ids for one in completions] == [one.ids for one in found[0]]


@needs_cuda
def test_a_gpus_step_of_decoding_is_waited_for_once() -> None:
    engine = on_gpu("bfloat16", graphs=True)
    for seed, each in enumerate(SETTINGS):
        engine.submit(prompt_of(20, seed), attrs.evolve(each, ignore_eos=True))
    for _ in range(20):
        engine.step()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with pytest.warns(UserWarning, match="called a synchronizing CUDA operation") as waits:
            engine.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(waits) == 1
