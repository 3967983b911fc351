"""How fast the engine answers so many prompts at once, against what the machine's memory allows.

In: a subject. Out: for each number of rows an EngineSpeed. Not here: a server and its clients (`serving_speed`).
"""

import time
from collections.abc import Sequence
from typing import Any

import attrs
import torch

from nanochat.benchmarking.latency import Moments, Percentiles, between, first
from nanochat.benchmarking.operators import bandwidth
from nanochat.benchmarking.subject import Subject, endless, engine_of, memory_bytes, prompts
from nanochat.inference.engine import Engine
from nanochat.inference.request import Request

WARM_TOKENS = 4


@attrs.frozen(kw_only=True)
class EngineSpeed:
    """One number of rows, measured."""

    rows: int
    tokens_per_second: float
    """Written, of all rows together, from the first prompt to the last id."""
    decode_tokens_per_second: float | None
    """In the steps in which every row wrote; None: the first rows were done before the last had begun."""
    bytes_per_second: float | None
    """Weights, keys and values that those steps had to read."""
    of_bandwidth: float | None
    first: Percentiles
    between: Percentiles
    second_turn: float
    """Time to the first id of a second turn, over that of the whole conversation asked anew."""
    cancel_seconds: float
    """From a cancellation to a free slot."""
    memory_bytes: int


def engine_speed(subject: Subject, *, rows: Sequence[int], prompt: int, tokens: int) -> list[EngineSpeed]:
    """Each number of rows in turn. prompt, tokens: of each row."""
    model, runtime = subject.made()
    speed = bandwidth(runtime.device)
    found = []
    for count in rows:
        engine = engine_of(model, runtime, rows=count, context=2 * (prompt + tokens) + 64, compiled=subject.compiled)
        if engine.graphs is None:
            engine.generate(prompts(count, 8, seed=0), endless(WARM_TOKENS))
        else:  # every shape that will come up is captured
            engine.generate(prompts(count, prompt, seed=0), endless(tokens))
        found.append(_measured(engine, count, prompt, tokens, subject.element_bytes, speed))
    return found


def _measured(
    engine: Engine, rows: int, prompt: int, tokens: int, element_bytes: int, bandwidth_: float
) -> EngineSpeed:
    answers, steps, seconds = _run(engine, prompts(rows, prompt, seed=1), tokens)
    whole = [step for step, wrote in steps if wrote == rows]
    step_seconds = sum(whole) / len(whole) if whole else None
    config: Any = engine.model.config
    weights, _ = config.decode_bytes(1, element_bytes=element_bytes)
    _, held = config.decode_bytes(prompt + tokens // 2, element_bytes=engine.runtime.dtype.itemsize)
    read = (weights + rows * held) / step_seconds if step_seconds else None
    return EngineSpeed(
        rows=rows,
        tokens_per_second=rows * tokens / seconds,
        decode_tokens_per_second=rows / step_seconds if step_seconds else None,
        bytes_per_second=read,
        of_bandwidth=read / bandwidth_ if read else None,
        first=first(answers),
        between=between(answers),
        second_turn=_second_turn(engine, prompt, tokens),
        cancel_seconds=_cancel(engine, prompt),
        memory_bytes=memory_bytes(),
    )


def _run(
    engine: Engine, asked: Sequence[Sequence[int]], tokens: int
) -> tuple[list[Moments], list[tuple[float, int]], float]:
    """Answer all; the moments of each, each step's seconds and how many rows wrote in it, and the seconds in all."""
    began = time.perf_counter()
    requests = [engine.submit(prompt, endless(tokens)) for prompt in asked]
    moments = {request: Moments(began) for request in requests}
    steps = []
    before = began
    while engine.scheduler.busy:
        moved = engine.step()
        now = time.perf_counter()
        steps.append((now - before, len(moved)))
        before = now
        for request in moved:
            moments[request].pieces.append(now)
    return list(moments.values()), steps, before - began


def _second_turn(engine: Engine, prompt: int, tokens: int) -> float:
    """The time to the first id where the first turn is in the cache, over that where nothing is."""
    (asked,) = prompts(1, prompt, seed=2)
    done = engine.generate([asked], endless(tokens))[0]
    turn = [*asked, *done.ids, *prompts(1, 16, seed=3)[0]]
    warm = _first_id(engine, turn, "")
    return warm / _first_id(engine, turn, "somebody else's")


def _first_id(engine: Engine, prompt: Sequence[int], salt: str) -> float:
    began = time.perf_counter()
    request = engine.submit(prompt, endless(1), salt=salt)
    while request.finish_reason is None:
        engine.step()
    return time.perf_counter() - began


def _cancel(engine: Engine, prompt: int) -> float:
    """Between two steps, as all cancellations come: the slot is free at once, so a step is the longest wait."""
    request: Request = engine.submit(prompts(1, prompt, seed=4)[0], endless(8))
    engine.step()
    began = time.perf_counter()
    engine.cancel(request)
    if engine.runtime.device.type == "cuda":
        torch.cuda.synchronize(engine.runtime.device)
    return time.perf_counter() - began
