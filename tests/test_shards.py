"""Several real processes: the same training as one, bit for bit where that is promised, whatever is shared out.

Each test with ranks starts them once and lets them do all that it asks. The runs are those of sharded_run.py.
"""

import json
import shutil
from pathlib import Path

import attrs
import pytest
import torch
import torch.distributed as dist
from ranks import run_on_ranks
from sharded_run import STEPS, Outcome, train_on
from torch import nn

from nanochat.data.loader import Batch
from nanochat.runtime import Runtime, local_runtime
from nanochat.text.tokenizer import Tokenizer
from nanochat.training.exchange import Exchange
from nanochat.training.fully_sharded import FullExchange
from nanochat.training.lanes import ElasticExchange
from nanochat.training.manifest import MANIFEST
from nanochat.training.saved_model import SavedModel
from nanochat.training.share import Share
from nanochat.training.tensor_file import write_tensors

CLIP = 0.05
"""Well below the gradients' norm."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs are, and the tokenizer that they load."""
    found = tmp_path_factory.mktemp("shards")
    (found / "tok").mkdir()
    Tokenizer.train(["to be or not to be, that is the question " * 20], vocab_size=270).save(found / "tok")
    return found


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Outcome]:
    """The runs of one process that the others are compared with, and half runs for others to go on with."""
    one = local_runtime()
    for name, changes in {"fixed": {}, "clipped": {"grad_clip": CLIP}, "elastic": {"determinism": "elastic"}}.items():
        train_on(one, folder / name, folder / "tok", **changes)
        train_on(one, folder / f"{name} 1→2", folder / "tok", until=4, **changes)
    return {name: Outcome.of(folder / name) for name in ("fixed", "clipped", "elastic")}


@pytest.fixture(scope="module")
def two(folder: Path, alone: dict[str, Outcome]) -> Path:
    """All runs of two ranks."""
    run_on_ranks(2, folder, on_two_ranks, folder, shard="none")
    return folder


def on_two_ranks(runtime: Runtime, folder: Path) -> None:
    none, optimizer, full = (attrs.evolve(runtime, shard=shard) for shard in ("none", "optimizer", "full"))
    tok = folder / "tok"
    train_on(none, folder / "none on 2", tok)
    train_on(optimizer, folder / "optimizer on 2", tok)
    train_on(full, folder / "full on 2", tok)
    train_on(none, folder / "bfloat16 tables on 2", tok, embedding_dtype="bfloat16")
    train_on(full, folder / "bfloat16 tables, full on 2", tok, embedding_dtype="bfloat16")
    train_on(optimizer, folder / "clipped on 2", tok, grad_clip=CLIP)
    train_on(full, folder / "clipped full on 2", tok, grad_clip=CLIP)
    train_on(optimizer, folder / "elastic on 2", tok, determinism="elastic")
    train_on(none, folder / "elastic none on 2", tok, determinism="elastic")
    # Begun by one rank, gone on with by two, each time with another share of the state; left for one to end.
    train_on(optimizer, folder / "elastic 1→2", tok, until=6, determinism="elastic")
    train_on(none, folder / "elastic 1→2", tok, until=8, determinism="elastic")
    for determinism in ("elastic", "fixed"):
        train_on(optimizer, folder / f"{determinism} 2→4", tok, until=6, determinism=determinism)
    train_on(optimizer, folder / "fixed 1→2", tok, until=6)
    train_on(full, folder / "fixed 1→2", tok, until=7)
    train_on(none, folder / "fixed 1→2", tok, until=8)


def assert_close(found: Outcome, expected: Outcome) -> None:
    """But for float32's rounding, for the last bits of a gradient are another sum's.

    In 12 steps of 2 and 4 ranks the losses, about 6, differ by one or two units of their last place (5e-7), the weights
    by 4e-7 and less. The exception is a number alone: its gradient is one sum of all that the batch has, in which most
    cancels, and AdamW makes steps of one size of it, 0.01 each, which differ as the gradient does, relative to what is
    left of it: after 12 steps by 2e-5.
    """
    assert found.losses.keys() == expected.losses.keys()
    for step, loss in expected.losses.items():
        assert float.fromhex(found.losses[step]) == pytest.approx(float.fromhex(loss), rel=0, abs=3e-6)
    for name, weight in expected.weights.items():
        atol = 1e-4 if weight.numel() == 1 else 3e-6
        torch.testing.assert_close(found.weights[name], weight, atol=atol, rtol=0)


def assert_equal(found: Outcome, expected: Outcome, *, steps: int = STEPS) -> None:
    assert found.losses == expected.losses
    assert len(found.losses) == steps
    assert all(torch.equal(found.weights[name], weight) for name, weight in expected.weights.items())


@pytest.mark.slow
@pytest.mark.parametrize("run", ["none on 2", "optimizer on 2", "full on 2"])
def test_two_processes_train_as_one(run: str, two: Path, alone: dict[str, Outcome]) -> None:
    assert_close(Outcome.of(two / run), alone["fixed"])


@pytest.mark.slow
def test_tables_in_bfloat16_are_cut_as_well(two: Path) -> None:
    cut, whole = (Outcome.of(two / run) for run in ("bfloat16 tables, full on 2", "bfloat16 tables on 2"))
    losses = [[float.fromhex(loss) for loss in run.losses.values()] for run in (cut, whole)]
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)  # the tables' gradients are summed in 8 bits
    assert cut.weights["wte.weight"].dtype == torch.bfloat16


@pytest.mark.slow
@pytest.mark.parametrize("run", ["clipped on 2", "clipped full on 2"])
def test_two_processes_clip_by_the_norm_of_all_gradients(run: str, two: Path, alone: dict[str, Outcome]) -> None:
    assert_close(Outcome.of(two / run), alone["clipped"])
    with pytest.raises(AssertionError):  # clipping matters here
        assert_close(alone["clipped"], alone["fixed"])


@pytest.mark.slow
@pytest.mark.parametrize("run", ["elastic on 2", "elastic none on 2"])
def test_an_elastic_run_of_two_processes_is_that_of_one_bit_for_bit(
    run: str, two: Path, alone: dict[str, Outcome]
) -> None:
    assert_equal(Outcome.of(two / run), alone["elastic"])
    assert alone["elastic"].losses != alone["fixed"].losses  # other sums than those of a whole batch


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes_and_back(two: Path, alone: dict[str, Outcome]) -> None:
    for name, same in (("elastic", assert_equal), ("fixed", assert_close)):
        train_on(local_runtime(), two / f"{name} 1→2", two / "tok", determinism=name)
        same(Outcome.of(two / f"{name} 1→2"), alone[name])


# The exchange alone


def test_lanes_are_added_by_halves_in_whatever_order_they_are_computed() -> None:
    """Eight lanes of one row each: ((0+4)+(2+6))+((1+5)+(3+7)), bit for bit, and no plain sum."""
    model = nn.ParameterDict({"w": nn.Parameter(torch.zeros(200))})
    exchange = ElasticExchange(model, {"w": Share(kind="replicated")}, local_runtime(), lanes=8)
    rows = torch.randn(8, 200, generator=torch.Generator().manual_seed(0)) * 10.0 ** torch.arange(8).view(8, 1)
    for lane in exchange.lanes(Batch(rows, torch.arange(8).view(8, 1))):
        model["w"].grad = lane.inputs[0].clone()
        exchange.lane_done([lane.targets.sum().float()])
    assert float(exchange.complete()) == sum(range(8))
    halves = rows
    while len(halves) > 1:
        halves = halves[: len(halves) // 2] + halves[len(halves) // 2 :]
    (found,) = exchange.gradients()
    assert torch.equal(found, halves[0])
    assert not torch.equal(found, rows.sum(0))


class Branches(nn.Module):
    """Each rank uses parameters of its own, beside one that all use and one that nobody does."""

    def __init__(self) -> None:
        super().__init__()
        self.common, self.unused = nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(2))
        self.own = nn.ParameterList(nn.Parameter(torch.full((2,), float(i + 1))) for i in range(2))

    def forward(self, rank: int) -> torch.Tensor:
        return (self.common * (rank + 1)).sum() + (self.own[rank] ** 2).sum()


def exchanges(runtime: Runtime) -> None:
    model = Branches()
    kinds = {
        "common": Share(kind="cut"), "unused": Share(kind="replicated"),
        "own.0": Share(kind="owned", owner=1), "own.1": Share(kind="replicated"),
    }  # fmt: skip
    exchange, sent = Exchange(model, kinds, runtime), []
    plain = dist.reduce_scatter_tensor

    def seen(*arguments: object, **options: object) -> object:
        sent.append("common")
        return plain(*arguments, **options)  # type: ignore[arg-type]

    dist.reduce_scatter_tensor = seen  # type: ignore[assignment]
    for step in range(2):
        for last in (False, True):
            if last:
                exchange.expect()
            loss = model(runtime.rank)
            loss.backward()
        # While nothing is known of the order, nothing is sent early. Then rank 0, whose order it is, waits for nobody.
        if runtime.is_main:
            assert sent == ["common"] * (2 if step else 0)
        exchange.lane_done([loss.detach()])
        exchange.complete()
        gradients = {name: part.grad for name, part in exchange.parts.items()}
        assert gradients["unused"] is None
        assert torch.equal(gradients["common"], torch.full((2, 3), 6.0))  # (1 + 2) of two passes, two rows of four
        assert torch.equal(gradients["own.1"], torch.full((2,), 8.0))  # 2 · 2 of two passes, from rank 1 alone
        assert ("own.0" in gradients) == (runtime.rank == 1)
        norm = (12 * 6.0**2 + 2 * 4.0**2 + 2 * 8.0**2) ** 0.5
        assert float(exchange.norm()) == pytest.approx(norm)
        with torch.no_grad():
            for part in exchange.parts.values():
                part.fill_(float(10 * step))
        exchange.spread()
        exchange.forget()
        assert torch.equal(model.common, torch.full((4, 3), 10.0 * step))
        assert torch.equal(model.own[0], torch.full((2,), 10.0 * step))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(1.0)
            model.own[1].fill_(2.0)


def test_gradients_are_summed_and_sent_while_the_backward_pass_goes_on(tmp_path: Path) -> None:
    run_on_ranks(2, tmp_path, exchanges, shard="optimizer")


class Uneven(nn.Module):
    """Rows that two ranks cannot share equally, and a method beside forward that an evaluation calls."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.blocks = nn.ModuleList(nn.Linear(3, rows, bias=False) for rows in (5, 1, 3))
        with torch.no_grad():
            for index, block in enumerate(self.blocks):
                block.weight.copy_(torch.arange(block.weight.numel()).view_as(block.weight) + 10.0 * index)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([block(x).sum() for block in self.blocks]).sum() * self.scale[0]

    def score(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([(block.weight @ x).sum() for block in self.blocks]).sum()


def cuts(runtime: Runtime, folder: Path) -> None:
    plain, model, x = Uneven(), Uneven(), torch.tensor([1.0, 2.0, 4.0])
    kinds = {
        "scale": Share(kind="replicated"), "blocks.0.weight": Share(kind="cut"), "blocks.1.weight": Share(kind="cut"),
        "blocks.2.weight": Share(kind="owned", owner=1),
    }  # fmt: skip
    exchange = FullExchange(model, kinds, runtime)
    held = {name: tuple(part.shape) for name, part in exchange.parts.items()}
    first = {"scale": (1,), "blocks.0.weight": (3, 3), "blocks.1.weight": (1, 3)}
    assert held == (first if runtime.is_main else {"scale": (1,), "blocks.0.weight": (2, 3), "blocks.2.weight": (3, 3)})
    for _ in range(2):  # the ranks evaluate unlike, between two training steps
        with exchange.whole(), torch.no_grad():
            for _ in range(1 + runtime.rank):
                assert torch.equal(model.score(x), plain.score(x))
                assert torch.equal(model(x), plain(x))
        model((1 + runtime.rank) * x).backward()
        exchange.expect()
        model((3 + runtime.rank) * x).backward()  # ten times x, by two ranks in two passes
        exchange.lane_done([torch.zeros(())])
        exchange.complete()
        plain(10 * x).backward()
        expected = torch.nn.utils.get_total_norm([p.grad for p in plain.parameters() if p.grad is not None])
        torch.testing.assert_close(exchange.norm(), expected)
        for each in (exchange.parts, dict(plain.named_parameters())):
            torch.optim.SGD(each.values(), lr=0.01).step()
        exchange.spread()
        exchange.forget()
        plain.zero_grad()
    part = exchange.model_part()
    rows = [(1,), (3, 3), (1, 3), (2, 3)] if runtime.is_main else [(2, 3), (1, 3)]
    assert [tuple(tensor.shape) for tensor in part.tensors.values()] == rows
    write_tensors(part.tensors, folder / f"{part.file}.safetensors", part.metadata)
    for tensor in part.tensors.values():
        tensor.zero_()  # over the weights' own memory: nothing is gathered or copied
    runtime.barrier()
    saved = SavedModel(folder)
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(saved.whole()[name], parameter.detach())
    assert float(model.scale) == 0.0 or not runtime.is_main
    exchange.load_model(saved)
    with exchange.whole(), torch.no_grad():
        torch.testing.assert_close(model(x), plain(x))


def test_a_model_that_is_cut_is_gathered_where_it_must_be_whole(tmp_path: Path) -> None:
    files = ["model-0.safetensors", "model-1.safetensors"]
    (tmp_path / MANIFEST).write_text(json.dumps({"files": {name: {"bytes": 0} for name in files}}))
    run_on_ranks(2, tmp_path, cuts, tmp_path, shard="full")


# Four ranks


def few_steps(runtime: Runtime, folder: Path) -> None:
    # Not weights that are cut: FSDP's import would take each rank as long as all of this.
    for determinism in ("fixed", "elastic"):
        train_on(runtime, folder / determinism, folder / "tok", steps=3, determinism=determinism)


def test_the_first_steps_of_two_and_of_four_processes_are_those_of_one(folder: Path) -> None:
    runs = {ranks: folder / f"short on {ranks}" for ranks in (1, 2, 4)}
    for ranks, place in runs.items():
        shutil.copytree(folder / "tok", place / "tok")
        if ranks == 1:
            few_steps(local_runtime(), place)
        else:
            run_on_ranks(ranks, place, few_steps, place, shard="optimizer")
    fixed, elastic = (Outcome.of(runs[1] / determinism) for determinism in ("fixed", "elastic"))
    # Other sums than those of a whole batch.
    assert any(not torch.equal(elastic.weights[name], weight) for name, weight in fixed.weights.items())
    for ranks in (2, 4):
        assert_close(Outcome.of(runs[ranks] / "fixed"), fixed)
        assert_equal(Outcome.of(runs[ranks] / "elastic"), elastic, steps=3)


@pytest.mark.slow
def test_four_processes_train_as_one_and_as_two(folder: Path, two: Path, alone: dict[str, Outcome]) -> None:
    run_on_ranks(4, folder, on_four_ranks, folder, shard="optimizer")
    assert_close(Outcome.of(folder / "optimizer on 4"), alone["fixed"])
    assert_equal(Outcome.of(folder / "elastic on 4"), alone["elastic"])
    assert_equal(Outcome.of(folder / "elastic 2→4"), alone["elastic"])
    assert_close(Outcome.of(folder / "fixed 2→4"), alone["fixed"])
    for shard in ("optimizer", "full"):
        assert_close(Outcome.of(folder / f"{shard} on 4"), alone["fixed"])
        assert_equal(Outcome.of(folder / f"{shard} on 4, stopped"), Outcome.of(folder / f"{shard} on 4"))


def on_four_ranks(runtime: Runtime, folder: Path) -> None:
    tok = folder / "tok"
    for shard in ("optimizer", "full"):
        its = attrs.evolve(runtime, shard=shard)
        train_on(its, folder / f"{shard} on 4", tok)
        train_on(its, folder / f"{shard} on 4, stopped", tok, until=6)
        train_on(its, folder / f"{shard} on 4, stopped", tok)
    train_on(runtime, folder / "elastic on 4", tok, determinism="elastic")
    train_on(runtime, folder / "elastic 2→4", tok, determinism="elastic")
    train_on(runtime, folder / "fixed 2→4", tok)
