"""How long attention over windows takes, forward and backward, by bands and by a dense mask, on one core of a CPU.

`pytest tests/benchmarks/test_attention_speed.py --benchmark-only` prints the table.
"""

from typing import Any

import pytest
import torch

from nanochat.model.attention_backends import Backend, Dense
from nanochat.model.banded import Banded


@pytest.mark.parametrize("backend", [Dense(), Banded()], ids=lambda backend: backend.name)
@pytest.mark.parametrize(
    "rows, positions, heads, head_dim, window",
    [(8, 512, 4, 64, 128), (8, 512, 4, 64, 512), (1, 2048, 6, 128, 512)],
    ids=["d4 short", "d4 long", "d12 short"],
)
def test_attention(
    benchmark: Any, rows: int, positions: int, heads: int, head_dim: int, window: int, backend: Backend
) -> None:
    q, k, v, upstream = (torch.randn(rows, positions, heads, head_dim) for _ in range(4))
    given = [x.requires_grad_() for x in (q, k, v)]

    def step() -> None:
        mask = backend.mask(positions, window, q.device, None)
        torch.autograd.grad(backend.attend(q, k, v, window, mask), given, upstream)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # what else runs on the machine matters less
    benchmark.pedantic(step, rounds=10, warmup_rounds=1)
    torch.set_num_threads(threads)
