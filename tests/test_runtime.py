"""What a worker's runtime sets in torch, for as long as it lasts."""

import pytest
import torch

from nanochat.runtime import distributed_runtime


@pytest.mark.parametrize("wanted", ["highest", "high"])
def test_the_precision_of_float32_products_is_set_and_put_back(wanted: str) -> None:
    before = torch.get_float32_matmul_precision()
    with distributed_runtime(device="cpu", dtype="float32", seed=1, matmul_precision=wanted):
        assert torch.get_float32_matmul_precision() == wanted
    assert torch.get_float32_matmul_precision() == before
