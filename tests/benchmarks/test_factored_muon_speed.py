"""Muon's step on gradients in 32 columns: dense, in factors, and with the momentum in factors too, in one run.

    uv run pytest tests/benchmarks/test_factored_muon_speed.py --benchmark-enable --benchmark-only -s

Four matrices of (1024, 256), on one thread, by the processor's clock. The ways take turns; the fastest of each counts.
"""

import torch
from in_turns import least_seconds
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from nanochat.runtime import local_runtime
from nanochat.training.factored_gradient import Factors, orthonormal, set_factors
from nanochat_plugins.optimizers import muon
from nanochat_plugins.optimizers.muon_config import MuonConfig

MATRICES, ROWS, COLUMNS, RANK = 4, 1024, 256, 32
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
        name: optimizer_of(in_factors=in_factors, factored_momentum=momentum).step
        for name, (in_factors, momentum) in WAYS.items()
    }
    seconds = least_seconds(benchmark, ways)
    for name, found in seconds.items():
        print(f"{name}: {found * 1e3:.0f} ms, {found / seconds['dense']:.2f} of dense")
