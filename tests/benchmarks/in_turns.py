"""Several ways of doing one thing, timed in turns: what changes the machine's speed meanwhile changes all of them."""

import time
from collections.abc import Callable, Mapping

import torch
from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS = 7


def least_seconds(benchmark: BenchmarkFixture, ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Of each way its fastest round, in seconds of the processor's clock, on one thread."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}

    def take_turns() -> None:
        for name, once in ways.items():
            began = time.process_time()
            once()
            seconds[name].append(time.process_time() - began)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        benchmark.pedantic(take_turns, rounds=ROUNDS, warmup_rounds=1)
    finally:
        torch.set_num_threads(threads)
    return {name: min(found) for name, found in seconds.items()}
