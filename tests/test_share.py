"""Who updates what, and the optimizers' state by parameter: cut, joined and taken up by another number of processes."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nanochat.runtime import Runtime
from nanochat.training.exchange import Exchange
from nanochat.training.optimizer_state import Part, Updater, joined_states, restore, state_of
from nanochat.training.share import shares
from nanochat_plugins.optimizers import adamw, muon
from nanochat_plugins.optimizers.adamw_config import AdamWConfig
from nanochat_plugins.optimizers.muon_config import MuonConfig

LAYOUT = {"wte": (12, 4), "odd": (7, 3), "a": (6, 4), "b": (4, 6), "c": (6, 4), "scale": (), "bias": (5,)}
MATRICES = ("a", "b", "c")
layouts = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), st.lists(st.integers(1, 12), max_size=3).map(tuple), max_size=12
)


@given(layout=layouts, world_size=st.integers(1, 8), smallest=st.integers(0, 50), data=st.data())
def test_every_row_is_updated_by_somebody_and_saved_by_one(
    layout: dict[str, tuple[int, ...]], world_size: int, smallest: int, data: st.DataObject
) -> None:
    elementwise = [name for name in layout if data.draw(st.booleans())]
    shard = data.draw(st.sampled_from(["none", "optimizer"]))
    found = shares(layout, shard=shard, world_size=world_size, elementwise=elementwise, smallest=smallest)
    for name, shape in layout.items():
        rows, saved = shape[0] if shape else 1, []
        for rank in range(world_size):
            its = found[name].rows(shape, rank, world_size)
            if its is not None and found[name].saves(rank):
                saved += range(*its)
        assert saved == list(range(rows))
        if name not in elementwise:
            assert found[name].kind != "cut"


def test_whole_matrices_are_shared_out_evenly_and_big_tables_are_cut() -> None:
    layout = {f"block.{i}": (64, 64) for i in range(8)} | {"wte": (512, 64), "lambda": (8,)}
    found = shares(layout, shard="optimizer", world_size=4, elementwise=["wte", "lambda"], smallest=1024)
    assert (found["wte"].kind, found["lambda"].kind) == ("cut", "replicated")
    owners = [found[f"block.{i}"].owner for i in range(8)]
    assert sorted(owners) == [0, 0, 1, 1, 2, 2, 3, 3]


def updaters_of(rank: int, world_size: int, parameters: Mapping[str, nn.Parameter]) -> tuple[Exchange, list[Updater]]:
    """What the rank updates of LAYOUT: its matrices by Muon, the rest by AdamW. Nothing is sent."""
    rest = [name for name in LAYOUT if name not in MATRICES]
    shared = shares(LAYOUT, shard="optimizer", world_size=world_size, elementwise=rest, smallest=10)
    runtime = Runtime(device=torch.device("cpu"), dtype=torch.float32, rank=rank, world_size=world_size)
    exchange = Exchange(nn.ParameterDict(parameters), shared, runtime)
    configs: dict[str, Any] = {"matrices": MuonConfig(weight_decay=0.1), "rest": AdamWConfig()}
    found = []
    for group, build, names in (("matrices", muon.build, MATRICES), ("rest", adamw.build, rest)):
        parts = {}
        for name in names:
            rows = shared[name].rows(LAYOUT[name], rank, world_size)
            if rows is not None:
                saves = shared[name].saves(rank)
                parts[name] = Part(parameter=exchange.parts[name], start=rows[0], stop=rows[1], saved_here=saves)
        if parts:
            optimizer = build(configs[group], {name: part.parameter for name, part in parts.items()}, runtime)
            found.append(Updater(group=group, optimizer=optimizer, parts=parts))
    return exchange, found


def steps(world_size: int, weights: Mapping[str, Tensor], gradients: list[dict[str, Tensor]], saved: Any) -> Any:
    """The weights after these gradients, on that many ranks one after another; and what all of them save."""
    whole, files = {name: weight.clone() for name, weight in weights.items()}, []
    for rank in range(world_size):
        parameters = {name: nn.Parameter(weight.clone()) for name, weight in weights.items()}
        exchange, updaters = updaters_of(rank, world_size, parameters)
        if saved is not None:
            restore(updaters, joined_states(saved))
        for at_once in gradients:
            for name, part in exchange.parts.items():
                rows = exchange.shares[name].rows(LAYOUT[name], rank, world_size)
                assert rows is not None
                part.grad = (at_once[name][slice(*rows)] if LAYOUT[name] else at_once[name]).clone()
            for updater in updaters:
                updater.optimizer.step()
        for name in exchange.parts:
            rows = exchange.shares[name].rows(LAYOUT[name], rank, world_size)
            assert rows is not None
            at = slice(*rows) if LAYOUT[name] else ...
            whole[name][at] = parameters[name].detach()[at]
        tensors, values = state_of(updaters)
        kept = {name: tensor.clone() for name, tensor in tensors.items()}
        files.append((json.loads(json.dumps(values)), lambda key, kept=kept: kept[key].clone()))
    return whole, files


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 4), (4, 3), (3, 2)])
def test_state_is_taken_up_by_another_number_of_processes(before: int, after: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=generator) for name, shape in LAYOUT.items()}
    gradients = [{name: torch.randn(shape, generator=generator) for name, shape in LAYOUT.items()} for _ in range(5)]
    expected, _ = steps(1, weights, gradients, None)
    half, saved = steps(before, weights, gradients[:3], None)
    found, _ = steps(after, half, gradients[3:], saved)
    for name in LAYOUT:
        torch.testing.assert_close(found[name], expected[name], atol=2e-6, rtol=1e-5)


@settings(deadline=None, max_examples=20)
@given(world_size=st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_the_files_of_all_ranks_hold_the_state_of_one_process(world_size: int) -> None:
    generator = torch.Generator().manual_seed(1)
    weights = {name: torch.randn(shape, generator=generator) for name, shape in LAYOUT.items()}
    gradients = [{name: torch.randn(shape, generator=generator) for name, shape in LAYOUT.items()} for _ in range(2)]
    alone = joined_states(steps(1, weights, gradients, None)[1])
    together = joined_states(steps(world_size, weights, gradients, None)[1])
    assert alone.parts.keys() == together.parts.keys()
    for key, (whole,) in alone.parts.items():
        parts = together.parts[key]
        assert [parts[0].start, parts[-1].stop] == [whole.start, whole.stop]
        for slot, read in whole.tensors.items():
            expected, pieces = read(), [part.tensors[slot]() for part in parts]
            found = torch.cat(pieces) if len(pieces) > 1 and expected.dim() else pieces[0]
            torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


def test_state_that_lacks_rows_is_refused() -> None:
    weights = {name: torch.zeros(shape) for name, shape in LAYOUT.items()}
    gradients = [{name: torch.ones(shape) for name, shape in LAYOUT.items()}]
    _, (first, _) = steps(2, weights, gradients, None)
    with pytest.raises(ValueError, match="the rows 0 to 12 of a parameter are not all there"):
        restore([updater for updater in updaters_of(0, 1, weights_of(weights))[1] if updater.group == "rest"],
                joined_states([first]))  # fmt: skip


def weights_of(weights: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(weight) for name, weight in weights.items()}
