"""Muon's step on gradients in 32 columns: dense, in factors, and with the momentum in factors too, in one run.

    uv run pytest tests/benchmarks/test_factored_muon_speed.py --benchmark-enable --benchmark-only -s

Four matrices of (1024, 256), on one thread, by the processor's clock. The ways take turns; the fastest of each counts.
"""

import time

import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from nanochat.runtime import local_runtime
from nanochat.training.factored_gradient import Factors, orthonormal, set_factors
from nanochat_plugins.optimizers import muon
from nanochat_plugins.optimizers.muon_config import MuonConfig

ROUNDS, MATRICES, ROWS, COLUMNS, RANK = 7, 4, 1024, 256, 32
WAYS = {"dense": (False, False), "factors": (True, False), "factored_momentum": (True, True)}


def optimizer_of(*, in_factors: bool, factored_momentum: bool) -> muon.Muon:
    """Muon over matrices whose gradients are there, the same ones in every way."""
    made = torch.Generator().manual_seed(0)
    weights = {str(i): nn.Parameter(torch.randn(ROWS, COLUMNS, generator=made)) for i in range(MATRICES)}
    for weight in weights.values():
        right = orthonormal(torch.randn(COLUMNS, RANK, generator=made))
        found = Factors(torch.randn(ROWS, RANK, generator=made), right)
        if in_factors:
            set_factors(weight, found)
        else:
            weight.grad = found.dense()
    config = MuonConfig(lr=0.02, weight_decay=0.1, factored_momentum=factored_momentum)
    return muon.build(config, weights, local_runtime())


def test_momentum_in_factors(benchmark: BenchmarkFixture) -> None:
    ways = {
        name: optimizer_of(in_factors=in_factors, factored_momentum=momentum)
        for name, (in_factors, momentum) in WAYS.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}

    def take_turns() -> None:
        for name, optimizer in ways.items():
            began = time.process_time()
            optimizer.step()
            seconds[name].append(time.process_time() - began)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        benchmark.pedantic(take_turns, rounds=ROUNDS, warmup_rounds=1)
    finally:
        torch.set_num_threads(threads)
    dense = min(seconds["dense"])
    for name, found in seconds.items():
        print(f"{name}: {min(found) * 1e3:.0f} ms, {min(found) / dense:.2f} of dense")
