"""Gradients in factors: what the basis converges to, what is lost, and that optimizers and processes take them."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import run_on_ranks
from torch import Tensor, nn

from nanochat.data.loader import Batch
from nanochat.runtime import Runtime, local_runtime
from nanochat.testing.tiny import tiny_model
from nanochat.training import factored_gradient, share
from nanochat.training.exchange import Exchange
from nanochat.training.factored_gradient import Factors, Tracked, Tracking, orthonormal
from nanochat.training.lanes import ElasticExchange
from nanochat.training.loop import TrainingRun, accumulate_gradients, make_dense
from nanochat_plugins.optimizers import adamw, muon
from nanochat_plugins.optimizers.adamw_config import AdamWConfig
from nanochat_plugins.optimizers.muon_config import MuonConfig
from nanochat_plugins.transforms import molegrad
from nanochat_plugins.transforms.molegrad_config import MolegradConfig

RUNTIME = local_runtime()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_spectrum(rows: int, columns: int, values: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix of these singular values, and its right singular vectors (columns, n)."""
    left, right = orthonormal(random(rows, len(values))), orthonormal(random(columns, len(values), seed=1))
    return left * values @ right.T, right


def step(its: Tracked, gradient: Tensor) -> None:
    """What a layer of this gradient gives to the tracker, and the update after it."""
    its.carrier.grad = torch.cat((gradient @ its.basis, gradient.T @ its.probe))
    its.advance()
    its.carrier.grad = None


def test_the_basis_nears_the_top_right_singular_space_by_the_squared_ratio_of_singular_values_a_refinement() -> None:
    k, ratio = 4, 0.6
    gradient, right = with_spectrum(40, 30, torch.tensor([5.0, 4.0, 3.0, 2.0, *[2.0 * ratio**i for i in range(1, 9)]]))
    its = Tracked(nn.Parameter(random(40, 30)), Tracking(rank=k), torch.Generator().manual_seed(2))
    outside = right[:, k:]
    tangents = []
    for _ in range(25):
        step(its, gradient)
        if its.since == 0:
            inside, beside = right[:, :k].T @ its.basis, outside.T @ its.basis
            tangents.append(float(torch.linalg.matrix_norm(beside @ torch.linalg.inv(inside), 2)))
    measured = [later / earlier for earlier, later in itertools.pairwise(tangents[3:])]
    assert len(tangents) == 13  # the first step refines, then every second one
    assert measured == pytest.approx([ratio**2] * len(measured), rel=0.02)
    torch.testing.assert_close(its.basis.T @ its.basis, torch.eye(k, dtype=torch.float64))


def test_a_basis_is_refined_as_often_as_it_is_told_and_a_layer_without_gradient_keeps_its() -> None:
    its = Tracked(
        nn.Parameter(random(12, 10)), Tracking(rank=3, refresh=4, warm_start=5), torch.Generator().manual_seed(2)
    )
    step(its, torch.zeros(12, 10, dtype=torch.float64))
    kept, changed = its.basis.clone(), []
    torch.testing.assert_close(kept.T @ kept, torch.eye(3, dtype=torch.float64))
    for number in range(1, 14):
        step(its, random(12, 10, seed=number))
        if not torch.equal(its.basis, kept):
            changed.append(number)
        kept = its.basis.clone()
    assert changed == [2, 4, 8, 12]  # every second step up to the fifth, then every fourth


def test_a_step_is_the_projection_of_the_gradient_and_over_random_bases_its_share_of_rank() -> None:
    """E[VVᵀ] = k/n for a uniformly random basis (Chikuse, Statistics on Special Manifolds, 2.2); so E‖GVVᵀ‖² too."""
    gradient, k, n = random(20, 16), 4, 16
    mean, squares, trials = torch.zeros_like(gradient), 0.0, 4000
    generator = torch.Generator().manual_seed(3)
    for _ in range(trials):
        basis = orthonormal(torch.randn(n, k, generator=generator, dtype=torch.float64))
        found = Factors(gradient @ basis, basis)
        mean += found.dense() / trials
        squares += float(found.left.norm() ** 2) / trials
    assert float((mean - k / n * gradient).norm() / (k / n * gradient).norm()) < 0.05
    assert squares == pytest.approx(k / n * float(gradient.norm() ** 2), rel=0.02)
    cosine = (found.dense() * gradient).sum() / (found.dense().norm() * gradient.norm())
    assert float(cosine) == pytest.approx(float(found.left.norm() / gradient.norm()))


# Optimizers


def updated(build: Any, config: Any, *, factored: bool, steps: int = 5, moving: bool = False) -> dict[str, Tensor]:
    """Weights after steps with the gradients A·Vᵀ, in factors or dense. moving: the basis changes."""
    weights = {name: nn.Parameter(random(24, 16, seed=seed).float()) for seed, name in enumerate("ab")}
    weights["tall"] = nn.Parameter(random(40, 16, seed=7).float())
    optimizer = build(config, weights, RUNTIME)
    for number in range(steps):
        for seed, weight in enumerate(weights.values()):
            right = orthonormal(random(16, 4, seed=50 + seed + 10 * number * moving)).float()
            found = Factors(random(len(weight), 4, seed=100 * number + seed).float(), right)
            if factored:
                factored_gradient.set_factors(weight, found)
            else:
                weight.grad = found.dense()
        optimizer.step()
        optimizer.zero_grad()
    return {name: weight.detach() for name, weight in weights.items()}


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize(
    "build, config",
    [
        (adamw.build, AdamWConfig(lr=0.01, weight_decay=0.1)),
        (muon.build, MuonConfig(lr=0.02, weight_decay=0.1)),
        (muon.build, MuonConfig(lr=0.02, weight_decay=0.1, nesterov=False, cautious=False)),
    ],
)
def test_adamw_and_muon_update_by_factors_as_by_the_dense_gradient(
    build: Any, config: Any, moving: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adamw, "FACTORED_BLOCK", 100)  # six rows at once
    dense = updated(build, config, factored=False, moving=moving)
    found = updated(build, config, factored=True, moving=moving)
    for name, weight in dense.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-4, atol=1e-5)


def test_momentum_in_factors_is_the_dense_one_while_the_basis_stays_and_not_when_it_moves() -> None:
    config = {"lr": 0.02, "weight_decay": 0.1}
    for moving in (False, True):
        dense = updated(muon.build, MuonConfig(**config), factored=False, moving=moving)
        found = updated(muon.build, MuonConfig(**config, factored_momentum=True), factored=True, moving=moving)
        off = max(float((found[name] - weight).abs().max()) for name, weight in dense.items())
        assert off > 1e-3 if moving else off < 1e-4


def test_an_optimizer_that_takes_no_factors_finds_a_dense_gradient() -> None:
    weight = nn.Parameter(random(6, 5))
    found = Factors(random(6, 2), orthonormal(random(5, 2, seed=1)))
    factored_gradient.set_factors(weight, found)
    make_dense(torch.optim.SGD([weight], lr=0.1))
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, found.left @ found.right.T)
    assert factored_gradient.factors(weight) is None


# Processes


def rows(count: int) -> Batch:
    ids = torch.randint(300, (count, 33), generator=torch.Generator().manual_seed(5))
    return Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())


def trained(
    runtime: Runtime, batch: Batch, *, shard: str = "none", lanes: int = 0, steps: int = 4
) -> tuple[dict[str, Tensor], float]:
    """The weights and bases of a few steps of AdamW on rows, and the last gradient's norm."""
    from nanochat.training.loop import Agreed, update

    model = molegrad.build(MolegradConfig(rank_k=8, target_layers="all", chunk=24), tiny_model(), runtime)
    layout = {name: tuple(p.shape) for name, p in model.named_parameters()}
    shared = share.shares(
        layout, shard=shard, world_size=runtime.world_size, elementwise=[] if lanes else layout, smallest=64
    )
    exchange = ElasticExchange(model, shared, runtime, lanes) if lanes else Exchange(model, shared, runtime)
    optimizer = adamw.build(AdamWConfig(lr=1e-3), exchange.parts, runtime)
    run = TrainingRun(
        model=model.train(), optimizers={"all": [optimizer]}, exchange=exchange, runtime=runtime, device_batch_size=1,
        grad_clip=0.01, loader=None, schedule=None, steps=steps, fraction=lambda _: 0.0, metrics=lambda *_: None,
        progress=lambda *_: None, evaluate=lambda _: {}, save=lambda: None, stop_asked=lambda: False,
    )  # type: ignore[arg-type]  # fmt: skip
    for _ in range(steps):
        accumulate_gradients(run, batch)
        norm = float(exchange.norm())
        agreed = Agreed(loss=1.0, gradient_norm=norm, stop=False, overdue=False, all_ready=True, all_written=False)
        update(run, agreed, measured=True)
    state = {name: p.detach() for name, p in exchange.parameters.items()}
    return state | factored_gradient.states(exchange.parameters), norm


def compare(runtime: Runtime, shard: str, lanes: int, expected: dict[str, Tensor], norm: float) -> None:
    batch = rows(4)
    mine = slice(2 * runtime.rank, 2 * runtime.rank + 2) if not lanes else slice(runtime.rank, None, 2)
    found, its_norm = trained(
        runtime, Batch(batch.inputs[mine].contiguous(), batch.targets[mine].contiguous()), shard=shard, lanes=lanes
    )
    assert its_norm == pytest.approx(norm, rel=1e-4)
    for name, tensor in expected.items():
        if lanes:
            assert torch.equal(found[name], tensor), name
        else:
            torch.testing.assert_close(found[name], tensor, rtol=2e-3, atol=2e-4, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("shard, lanes", [("none", 0), ("optimizer", 0), ("none", 4)])
def test_two_processes_train_as_one_and_hold_the_same_bases(tmp_path: Path, shard: str, lanes: int) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected, norm = trained(RUNTIME, rows(4), lanes=lanes)
    torch.set_num_threads(threads)
    run_on_ranks(2, tmp_path, compare, shard, lanes, expected, norm, shard=shard)


def test_saved_bases_are_taken_up_bit_for_bit_and_others_are_refused() -> None:
    def made(seed: int, rank: int = 3) -> dict[str, nn.Parameter]:
        weight = nn.Parameter(random(12, 10))
        Tracked(weight, Tracking(rank=rank, refresh=5), torch.Generator().manual_seed(seed))
        return {"w": weight}

    one, other = made(1), made(2)
    for number in range(4):
        step(factored_gradient.tracked(one["w"]), random(12, 10, seed=number))  # type: ignore[arg-type]
    factored_gradient.load_states(other, {name: t.clone() for name, t in factored_gradient.states(one).items()})
    for number in range(4, 12):
        for its in (factored_gradient.tracked(one["w"]), factored_gradient.tracked(other["w"])):
            step(its, random(12, 10, seed=number))  # type: ignore[arg-type]
    found, expected = factored_gradient.states(other), factored_gradient.states(one)
    assert found.keys() == {"w/basis", "w/probe", "w/place"}
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    with pytest.raises(ValueError, match=r"the basis is \(10, 3\) there and \(10, 4\) here"):
        factored_gradient.load_states(made(1, rank=4), expected)
    with pytest.raises(KeyError):
        factored_gradient.load_states(made(1), {})


@pytest.mark.parametrize("factored", [False, True])
def test_muon_in_bfloat16_moves_a_weight_within_the_space_of_its_gradients_alone(factored: bool) -> None:
    """In bfloat16 the iteration would raise what is rounding, where there is no gradient, to full size."""
    bfloat16 = Runtime(device=torch.device("cpu"), dtype=torch.bfloat16)
    weight = nn.Parameter(torch.randn(96, 64, generator=torch.Generator().manual_seed(5)))
    before = weight.detach().clone()
    config = MuonConfig(lr=0.02, weight_decay=0.0, variance_reduction=False, factored_momentum=factored)
    optimizer = muon.build(config, {"w": weight}, bfloat16)
    right = orthonormal(random(64, 8, seed=2)).float()
    for turn in range(3):
        factored_gradient.set_factors(weight, Factors(random(96, 8, seed=turn).float(), right))
        optimizer.step()
    moved = weight.detach() - before
    outside = moved - moved @ right @ right.T
    assert moved.norm() > 0 and outside.norm() < 1e-3 * moved.norm()
