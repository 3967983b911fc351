"""The optimizer `newcomer` keeps nanochat's contract, and follows its equations."""

import pytest
import torch
from nanochat.testing import check_optimizer, tiny_runtime
from torch import nn

from nanochat_newcomer.config import NewcomerConfig
from nanochat_newcomer.optimizer import build


def test_it_keeps_the_contract() -> None:
    check_optimizer(build, NewcomerConfig())
    check_optimizer(build, NewcomerConfig(weight_decay=0.1))


def test_two_steps_are_those_that_were_worked_out_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = build(NewcomerConfig(lr=0.5, momentum=0.5), {"weight": weight}, tiny_runtime())
    for gradient in (2.0, 4.0):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
    # averages 1.0 and 2.5: 1 - 0.5·1.0 - 0.5·2.5
    assert weight.item() == pytest.approx(-0.75)
