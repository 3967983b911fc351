"""Norm, rotation and relu² on a CPU: gradients by hand against torch's own, operation by operation, in one run.

    uv run pytest tests/benchmarks/test_pointwise_speed.py --benchmark-enable --benchmark-only -s

Forward and backward, on one thread, by the processor's clock: what else the machine does takes no part in it. The two
ways take turns; the fastest of each counts. The last line is a whole pass of REFERENCE's d4 (T 512, 8 rows).
"""

from collections.abc import Callable

import pytest
import torch
from in_turns import least_seconds
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from nanochat.model import pointwise
from nanochat.model.attention import rotary_tables
from nanochat.model.gpt import GPT
from nanochat.model.gpt_config import GPTConfig

D4 = GPTConfig(depth=4, dim=256, n_head=4, n_kv_head=4, head_dim=64, sequence_len=512, vocab_size=8192)
COS, SIN = (table[None, :, None] for table in rotary_tables(512, 64, 1e5))


def pass_of(operation: Callable[[Tensor], Tensor], *shape: int) -> Callable[[], None]:
    x, upstream = torch.randn(shape, requires_grad=True), torch.randn(shape)
    return lambda: operation(x).backward(upstream)


def pass_of_d4() -> Callable[[], None]:
    torch.manual_seed(0)
    model, ids = GPT(D4), torch.randint(D4.vocab_size, (8, 513))
    return lambda: model(ids[:, :-1], ids[:, 1:], reduction="sum").backward()


PASSES: dict[str, Callable[[], Callable[[], None]]] = {
    "norm": lambda: pass_of(pointwise.norm, 4096, 256),
    "rotate": lambda: pass_of(lambda x: pointwise.rotate(x, COS, SIN), 8, 512, 4, 64),
    "relu_squared": lambda: pass_of(pointwise.relu_squared, 4096, 1024),
    "a pass of a d4": pass_of_d4,
}


@pytest.mark.parametrize("name", PASSES)
def test_by_hand(benchmark: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    once, by_hand = PASSES[name](), pointwise._by_hand

    def hand() -> None:
        monkeypatch.setattr(pointwise, "_by_hand", by_hand)
        once()

    def own() -> None:
        monkeypatch.setattr(pointwise, "_by_hand", lambda _: False)
        once()

    seconds = least_seconds(benchmark, {"hand": hand, "own": own})
    ours, theirs = 1000 * seconds["hand"], 1000 * seconds["own"]
    print(f"\n{name}: by hand {ours:.1f} ms, torch's own {theirs:.1f} ms, {theirs / ours:.2f} times")
