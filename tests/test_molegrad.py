"""The transform `molegrad`: exact where it says so, what it keeps, and what it refuses."""

import json
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from nanochat.cli.plan import command as plan
from nanochat.errors import InputError, StageError
from nanochat.hardware import Hardware
from nanochat.model.gpt import GPT
from nanochat.model.gpt_config import GPTConfig
from nanochat.recipe.load import load_recipe
from nanochat.runtime import local_runtime
from nanochat.testing.tiny import tiny_model
from nanochat.training import share
from nanochat.training.exchange import Exchange
from nanochat.training.factored_gradient import Factors, Tracked, set_factors, tracked
from nanochat.training.step_memory import most_bytes
from nanochat_plugins.optimizers.adamw import AdamW
from nanochat_plugins.optimizers.adamw_config import AdamWConfig
from nanochat_plugins.transforms import activation_checkpointing, molegrad
from nanochat_plugins.transforms.activation_checkpointing_config import ActivationCheckpointingConfig
from nanochat_plugins.transforms.molegrad_config import MolegradConfig

RUNTIME = local_runtime()
IDS = torch.randint(300, (2, 32), generator=torch.Generator().manual_seed(1))
QUICKSTART = Path(__file__).parents[1] / "recipes" / "quickstart.toml"


def mole(model: GPT, **options: Any) -> GPT:
    built: GPT = molegrad.build(MolegradConfig(**{"rank_k": 16, "chunk": 20, **options}), model, RUNTIME)
    return built.train()


def bases(model: nn.Module) -> dict[str, Tracked]:
    return {name: its for name, p in model.named_parameters() if (its := tracked(p)) is not None}


def next_step(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.grad = None
    for its in bases(model).values():
        its.advance()
        its.carrier.grad = None


@pytest.mark.parametrize("target_layers", ["ffn_only", "attention", "all"])
@pytest.mark.parametrize("again", [False, True])
def test_the_loss_and_all_other_gradients_are_the_dense_ones_and_the_factors_are_their_product_with_the_basis(
    target_layers: str, again: bool
) -> None:
    plain, streamed = tiny_model().train(), mole(tiny_model(), target_layers=target_layers)
    if again:
        activation_checkpointing.build(ActivationCheckpointingConfig(), streamed, RUNTIME)
    for half in (IDS[:1], IDS[1:]):  # two micro-batches
        dense, found = plain(half, half), streamed(half, half)
        torch.testing.assert_close(found, dense)
        dense.backward()
        found.backward()
    assert len(bases(streamed)) == {"ffn_only": 4, "attention": 8, "all": 12}[target_layers]
    for (name, p), q in zip(plain.named_parameters(), streamed.parameters(), strict=True):
        its = tracked(q)
        if its is None:
            torch.testing.assert_close(q.grad, p.grad, msg=name)
        else:
            assert q.grad is None
            assert p.grad is not None
            assert its.carrier.grad is not None
            left = its.carrier.grad[: its.rows]
            torch.testing.assert_close(left, p.grad @ its.basis, rtol=1e-4, atol=1e-6, msg=name)


def low_rank_rows(count: int, width: int, rank: int) -> Tensor:
    made = torch.Generator().manual_seed(3)
    rows = torch.randn(count, rank, generator=made) @ torch.randn(rank, width, generator=made)
    return rows / rows.std()


@pytest.mark.parametrize("layer", ["q", "up"])
def test_the_gradient_is_the_dense_one_when_k_is_at_least_its_rank(layer: str) -> None:
    """x of rank 5, k of 6: the rows of gᵀx are in the space of the rows of x, which one refinement finds."""
    model, x = mole(tiny_model(), rank_k=6, target_layers="all"), low_rank_rows(64, 32, 5)
    module = model.blocks[0].mlp if layer == "up" else model.blocks[0].attn.q
    weight = module.up.weight if layer == "up" else module.weight
    upstream = torch.randn(64, 32, generator=torch.Generator().manual_seed(4))
    dense = tiny_model().blocks[0]
    (dense.mlp if layer == "up" else dense.attn.q)(x).backward(upstream)
    expected = (dense.mlp.up if layer == "up" else dense.attn.q).weight.grad
    for _ in range(2):
        module(x).backward(upstream)
        found = bases(model)[f"blocks.0.{'mlp.up' if layer == 'up' else 'attn.q'}.weight"]
        factors = found.factors(0, len(weight))
        assert factors is not None
        gradient = factors.dense()
        next_step(model)
    assert float((gradient - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.parametrize("layer", ["q", "mlp"])
def test_the_gradient_of_what_goes_into_a_layer_passes_gradcheck(layer: str) -> None:
    model = mole(tiny_model().double(), rank_k=4, target_layers="all", chunk=3)
    module = model.blocks[0].mlp if layer == "mlp" else model.blocks[0].attn.q
    x = torch.randn(7, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: module(x.view(1, 7, 32)), (x,))


def test_in_evaluation_nothing_is_changed() -> None:
    with torch.no_grad():
        assert torch.equal(mole(tiny_model(), target_layers="all").eval()(IDS), tiny_model().eval()(IDS))


def test_on_a_model_that_was_trained_the_cosine_to_the_dense_gradient_grows_with_k() -> None:
    """And it is ‖GV‖ / ‖G‖, above √(k/n), that of a random basis."""
    trained = tiny_model()
    optimizer = torch.optim.AdamW(trained.parameters(), lr=3e-3)
    made = torch.Generator().manual_seed(6)
    batches = [(torch.randint(20, (8, 33), generator=made) ** 2) % 300 for _ in range(4)]
    for _ in range(10):
        for ids in batches:
            optimizer.zero_grad()
            trained(ids[:, :-1], ids[:, 1:]).backward()
            optimizer.step()
    optimizer.zero_grad()
    cosines = []
    for k in (2, 8, 24):
        model = mole(tiny_model(), rank_k=k)
        model.load_state_dict(trained.state_dict())
        for ids in batches:
            next_step(model)
            model(ids[:, :-1], ids[:, 1:]).backward()
        plain = tiny_model()
        plain.load_state_dict(trained.state_dict())
        plain(batches[-1][:, :-1], batches[-1][:, 1:]).backward()
        dense = dict(plain.named_parameters())
        pairs = [(its.factors(0, its.rows), dense[name].grad) for name, its in bases(model).items()]
        products = sum(float((found.dense() * g).sum()) for found, g in pairs if found and g is not None)
        lengths = [
            sum(float(x.square().sum()) for x in its) ** 0.5
            for its in ([found.left for found, _ in pairs if found], [g for _, g in pairs if g is not None])
        ]
        cosines.append(products / (lengths[0] * lengths[1]))
        assert cosines[-1] == pytest.approx(lengths[0] / lengths[1], rel=1e-3)
        assert cosines[-1] > (k / 32) ** 0.5
    assert cosines == sorted(cosines)
    assert cosines[-1] > 0.95


# What is kept


class Shapes(TorchDispatchMode):
    """The shapes of all tensors that are made."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        views = func.is_view if hasattr(func, "is_view") else False
        for tensor in result if isinstance(result, list | tuple) else [result]:
            if isinstance(tensor, Tensor) and not views:
                self.seen.add(tuple(tensor.shape))
        return result


def saved_bytes(model: GPT, ids: Tensor) -> int:
    """What autograd keeps of a forward pass of the MLPs, each storage once, parameters and bases apart."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    own |= {t.untyped_storage().data_ptr() for its in bases(model).values() for t in (its.basis, its.probe)}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.randn(1, ids.size(1), model.config.dim, generator=torch.Generator().manual_seed(0)).requires_grad_()
    held = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        for block in model.blocks:
            held.append(block.mlp(x + 0))
    return sum(kept.values())


def test_at_8192_tokens_the_mlps_keep_an_eighth_of_what_they_keep_dense() -> None:
    ids = torch.zeros(1, 8192, dtype=torch.int64)
    dense = saved_bytes(tiny_model().train(), ids)
    streamed = saved_bytes(mole(tiny_model(), rank_k=8, chunk=1024), ids)
    n_bytes = 2 * 8192 * 32 * 4
    assert dense == 9 * n_bytes  # x, relu and its square, each four times as wide
    assert streamed == n_bytes


def peak_bytes(x: Tensor, upstream: Tensor, chunk: int | None) -> int:
    """Of a chain of four MLPs, forward and backward, in a step that refines; above x and its upstream gradient."""
    shape = GPTConfig(depth=4, dim=128, head_dim=64, n_head=2, n_kv_head=2, sequence_len=64, vocab_size=256)
    model = GPT(shape).train()
    if chunk is not None:
        mole(model, rank_k=32, chunk=chunk)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        y = x.detach().requires_grad_()
        for block in model.blocks:
            y = block.mlp(y)
        y.backward(upstream)
    return most_bytes(profiler)


def test_the_peak_of_four_mlps_forward_and_backward_at_8192_tokens_is_a_seventh_of_the_dense_one() -> None:
    """Both hold the later MLPs' inputs and the output, 4 of (T, C). Dense: each MLP 8 more, the square's gradient 4.
    Here: dL/dx, 1, and of a chunk relu² and the gradient of what goes into it, 8 · chunk / T.
    """
    made = torch.Generator().manual_seed(0)
    x, upstream = torch.randn(1, 8192, 128, generator=made), torch.randn(1, 8192, 128, generator=made)
    unit = x.numel() * 4
    dense, larger, streamed = (peak_bytes(x, upstream, chunk) for chunk in (None, 1024, MolegradConfig().chunk))
    assert dense / unit == pytest.approx(4 + 4 * 8 + 4, rel=0.01)
    assert larger / unit == pytest.approx(4 + 1 + 1, rel=0.05)
    assert streamed / unit == pytest.approx(4 + 1 + 0.5, rel=0.05)
    assert streamed / dense < 0.15 < larger / dense < 0.16


def test_no_hidden_activation_of_all_tokens_and_no_dense_gradient_is_ever_made() -> None:
    """A step as training takes it, once AdamW's moments, which are as large as the weights, are there."""
    ids = torch.randint(300, (1, 64), generator=torch.Generator().manual_seed(1))
    dense, streamed = Shapes(), Shapes()
    plain, model = tiny_model().train(), mole(tiny_model(), rank_k=8, chunk=16)
    layout = {name: tuple(p.shape) for name, p in model.named_parameters()}
    exchange = Exchange(model, share.shares(layout, shard="none", world_size=1), RUNTIME)
    targeted = {name: part for name, part in exchange.parts.items() if ".mlp." in name}
    optimizer = AdamW(AdamWConfig(), targeted, fused=True)

    def step() -> None:
        loss = model(ids, ids)
        loss.backward()
        exchange.lane_done([loss.detach()])
        exchange.complete()
        optimizer.step()
        exchange.advance()
        exchange.forget()

    with dense:
        plain(ids, ids).backward()
    step()
    before = {name: part.detach().clone() for name, part in targeted.items()}
    with streamed:
        for _ in range(3):
            step()
    for name, part in targeted.items():
        assert bool((part != before[name]).all()), name
    hidden, gradients = {(64, 128), (1, 64, 128)}, {(128, 32), (32, 128)}
    assert hidden & dense.seen
    assert gradients & dense.seen
    assert not hidden & streamed.seen
    assert not gradients & streamed.seen
    assert (16, 128) in streamed.seen


@pytest.mark.parametrize("shape", [(128, 32), (1024, 256), (256, 1024), (3072, 768)])
def test_adamw_multiplies_out_a_quarter_of_a_gradient_at_most(shape: tuple[int, int]) -> None:
    made = torch.Generator().manual_seed(1)
    weight, right = nn.Parameter(torch.zeros(shape)), torch.linalg.qr(torch.randn(shape[1], 8, generator=made)).Q
    optimizer = AdamW(AdamWConfig(), {"w": weight}, fused=True)
    set_factors(weight, Factors(torch.randn(shape[0], 8, generator=made), right))
    optimizer.step()
    first = weight.detach().clone()
    with Shapes() as watched:
        optimizer.step()
    assert bool((weight != first).all())
    assert 0 < max(prod(seen) for seen in watched.seen) <= min(prod(shape) // 4, 2**20)


@pytest.mark.slow  # torch's compiler is imported
@pytest.mark.parametrize("target_layers", ["ffn_only", "all"])
def test_a_compiled_model_gives_the_same_factors_step_by_step(target_layers: str) -> None:
    model, compiled = (mole(tiny_model(), target_layers=target_layers) for _ in range(2))
    call = torch.compile(compiled, backend="aot_eager", fullgraph=True)
    for _ in range(3):
        model(IDS, IDS).backward()
        call(IDS, IDS).backward()
        for one, other in zip(bases(model).values(), bases(compiled).values(), strict=True):
            torch.testing.assert_close(other.carrier.grad, one.carrier.grad, rtol=1e-3, atol=1e-5)
        for its in (model, compiled):
            next_step(its)


def saved_shapes(step: Callable[[], Tensor]) -> list[torch.Size]:
    """Shapes of all that autograd keeps of a forward pass, parameters left out."""
    kept: dict[int, torch.Size] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.shape
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step().backward()
    return list(kept.values())


def test_compiled_too_an_mlp_keeps_nothing_of_its_hidden_width() -> None:
    from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
    from torch._dynamo.backends.common import aot_autograd

    def as_it_is(graph: Any, _: Any) -> Any:
        return make_boxed_func(graph)

    backend = aot_autograd(  # how torch.compile chooses what to keep, without making code of it
        fw_compiler=as_it_is, bw_compiler=as_it_is, partition_fn=min_cut_rematerialization_partition
    )
    found = {}
    for name, model in {"dense": tiny_model().train(), "streamed": mole(tiny_model(), rank_k=4, chunk=16)}.items():
        torch._dynamo.reset()
        hidden = model.blocks[0].mlp.up.weight.size(0)
        call = torch.compile(model, backend=backend, fullgraph=True)
        shapes = saved_shapes(lambda call=call: call(IDS, IDS))
        found[name] = [shape for shape in shapes if shape.numel() >= 16 * hidden and hidden in shape]
    assert found["dense"], "the way to look sees what is kept"
    assert not found["streamed"]


# Power iterations


@pytest.mark.parametrize("layer", ["blocks.0.mlp.up.weight", "blocks.1.mlp.down.weight"])
def test_more_power_iterations_are_as_many_refinements_of_one_gradient(layer: str) -> None:
    dense = tiny_model().train()
    dense(IDS, IDS).backward()
    gradient = dict(dense.named_parameters())[layer].grad
    assert gradient is not None
    gradient = gradient.double()
    for power_iters in (1, 2, 4):
        model = mole(tiny_model(), rank_k=4, power_iters=power_iters)
        its = bases(model)[layer]
        right = its.probe.double()
        for turn in range(power_iters):
            right = torch.linalg.qr(gradient.T @ (right if turn == 0 else torch.linalg.qr(gradient @ right).Q)).Q
        model(IDS, IDS).backward()
        its.advance()
        cosines = torch.linalg.svdvals(right.T @ its.basis.double())
        assert cosines.min() > 1 - 1e-4, "the same space"


def test_more_power_iterations_are_refused_where_a_steps_rows_come_apart() -> None:
    model = mole(tiny_model(), power_iters=2)
    model(IDS[:1], IDS[:1]).backward()
    with pytest.raises(
        StageError, match=r"E115.*power_iters = 2 needs all rows of a step in one pass, and this is its second"
    ):
        model(IDS[1:], IDS[1:])
    two = attrs.evolve(RUNTIME, world_size=2)
    with pytest.raises(StageError, match=r"E115.*power_iters = 2 needs all rows of a step in one process"):
        molegrad.build(MolegradConfig(rank_k=4, power_iters=2), tiny_model(), two)
    once = mole(tiny_model(), power_iters=1)
    for rows in (IDS[:1], IDS[1:]):
        once(rows, rows).backward()


# What is refused


BAD = {
    "rank_k=0": "rank_k is 0, but it is at least 1",
    "rank_k=192": "rank_k = 192 saves nothing: `blocks.0.mlp.up.weight` of shape (768, 192) has rank 192 at most",
    'target_layers="mlp"': 'target_layers is "mlp", but it is one of "ffn_only", "attention", "all"',
    "refresh=1": "refresh is 1, but it is at least 2",
}


@pytest.mark.parametrize("setting", BAD)
def test_what_cannot_be_is_said_when_the_recipe_is_read(setting: str) -> None:
    sets = ['stages.base.transforms.low.use="molegrad"', f"stages.base.transforms.low.{setting}"]
    with pytest.raises(InputError) as refused:
        load_recipe(QUICKSTART, overrides=sets)
    assert BAD[setting] in str(refused.value)


def test_it_is_refused_beside_fp8_and_where_weights_are_cut() -> None:
    sets = ['stages.base.transforms.low.use="molegrad"', 'stages.base.transforms.eight.use="fp8"']
    with pytest.raises(InputError, match="molegrad computes layers that fp8 quantises"):
        load_recipe(QUICKSTART, overrides=sets)
    hardware = Hardware(device="cpu", dtype="float32", nproc_per_node=2, shard="full")
    assert "shard" in MolegradConfig().lacks(hardware, None)
    assert MolegradConfig().lacks(attrs.evolve(hardware, shard="optimizer"), None) == ""


def test_two_of_them_in_a_stage_are_refused() -> None:
    sets = [f'stages.base.transforms.{name}={{use = "molegrad", rank_k = {k}}}' for name, k in (("a", 8), ("b", 16))]
    with pytest.raises(
        InputError, match=r"transforms\.a: another transform of this stage uses molegrad too.* leave one"
    ):
        load_recipe(QUICKSTART, overrides=sets)


def test_a_model_that_it_cannot_change_is_refused() -> None:
    with pytest.raises(StageError, match=r"E115.*molegrad finds no blocks"):
        molegrad.build(MolegradConfig(), nn.Linear(2, 2), RUNTIME)
    quantised = tiny_model()
    quantised.blocks[1].mlp.up = type("Int8Linear", (nn.Linear,), {})(32, 128, bias=False)
    with pytest.raises(StageError, match=r"E115.*`blocks.1.mlp.up.weight` is a Int8Linear, and it knows"):
        molegrad.build(MolegradConfig(rank_k=4), quantised, RUNTIME)
    quantised.blocks[1].mlp.up.weight = nn.Parameter(torch.zeros(128, 32, dtype=torch.int8), requires_grad=False)
    with pytest.raises(StageError, match=r"E115.*`blocks.1.mlp.up.weight` is of torch.int8: quantised layers"):
        molegrad.build(MolegradConfig(rank_k=4), quantised, RUNTIME)
    shared = tiny_model()
    shared.blocks[1].mlp.up.weight = shared.blocks[0].mlp.up.weight
    with pytest.raises(StageError, match=r"E115.*share a weight"):
        molegrad.build(MolegradConfig(rank_k=4), shared, RUNTIME)
    shared.blocks[1].mlp = shared.blocks[0].mlp
    with pytest.raises(StageError, match=r"E115.*share a weight"):
        molegrad.build(MolegradConfig(rank_k=4), shared, RUNTIME)
    other = tiny_model()
    other.blocks[0].mlp.up.forward = lambda x: x
    with pytest.raises(StageError, match=r"E115.*another transform computes `blocks.0.mlp.up.weight`"):
        molegrad.build(MolegradConfig(rank_k=4), other, RUNTIME)


def test_a_plan_shows_a_recipe_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    shown = CliRunner().invoke(plan, [str(QUICKSTART), "--set", 'stages.base.transforms.low.use="molegrad"', "--json"])
    assert shown.exit_code == 0, shown.output
    assert [stage["action"] for stage in json.loads(shown.stdout)["stages"]] == ["run"] * 4
