"""GaLore against the authors' own package, step for step, and against the equations where the two differ."""

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_plugin import CPU
from torch import Tensor, nn

from nanochat.errors import InputError
from nanochat.recipe.load import load_recipe
from nanochat.registry import load_registry
from nanochat.runtime import local_runtime
from nanochat.testing.optimizer import check_optimizer
from nanochat.training.share import shares
from nanochat_plugins.optimizers import adamw, galore
from nanochat_plugins.optimizers.adamw_config import AdamWConfig
from nanochat_plugins.optimizers.galore_config import GaLoreConfig

REGISTRY = load_registry()
SHAPES = [(24, 16), (16, 24), (20, 20)]


def authors_adamw(parameters: list[nn.Parameter], **options: Any) -> torch.optim.Optimizer:
    """galore_torch.adamw, without the package's __init__, which imports CUDA kernels, and without transformers, of
    which it wants a look at torch's version."""
    spec = importlib.util.find_spec("galore_torch")
    assert spec is not None and spec.submodule_search_locations is not None
    names = ("galore_torch", "transformers", "transformers.utils", "transformers.utils.versions")
    stubs = {name: types.ModuleType(name) for name in names}
    stubs["galore_torch"].__path__ = list(spec.submodule_search_locations)
    stubs["transformers.utils.versions"].require_version = lambda _: None  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        for name, stub in stubs.items():
            patch.setitem(sys.modules, name, stub)
        cls = importlib.import_module("galore_torch.adamw").AdamW
    groups = [{"params": parameters, "rank": 4, "update_proj_gap": 3, "scale": 0.25, "proj_type": "std"}]
    made: torch.optim.Optimizer = cls(groups, no_deprecation_warning=True, **options)
    return made


def drawn(shape: tuple[int, int], seed: int) -> Tensor:
    """A gradient whose singular values are well apart, so that its first vectors are no matter of rounding."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.linalg.qr(torch.randn(n, min(shape), generator=generator)).Q for n in shape)
    return left * 0.7 ** torch.arange(min(shape)) @ right.T


def test_it_is_the_authors_own_step_for_step_over_several_projections() -> None:
    ours = {str(shape): nn.Parameter(drawn(shape, 0)) for shape in SHAPES}
    theirs = [nn.Parameter(p.detach().clone()) for p in ours.values()]
    options = {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-12}
    reference = authors_adamw(theirs, **options)
    config = GaLoreConfig(lr=0.01, rank=4, update_gap=3, scale=0.25, beta1=0.9, beta2=0.999, eps=1e-12)
    own = galore.build(config, ours, local_runtime())
    for step in range(1, 9):
        for mine, other in zip(ours.values(), theirs, strict=True):
            mine.grad = drawn(tuple(mine.shape), step)  # type: ignore[arg-type]
            other.grad = mine.grad.clone()
        own.step()
        reference.step()
        for mine, other in zip(ours.values(), theirs, strict=True):
            torch.testing.assert_close(mine, other, atol=2e-6, rtol=1e-5)


@settings(deadline=None, max_examples=25)
@given(
    rows=st.integers(3, 24), columns=st.integers(3, 24), gap=st.integers(1, 4), decay=st.floats(0, 1), data=st.data()
)
def test_it_follows_the_paper_in_float64(rows: int, columns: int, gap: int, decay: float, data: st.DataObject) -> None:
    """Algorithm 2, with the decoupled decay of AdamW before the update; P from float64's singular vectors."""
    rank = data.draw(st.integers(1, min(rows, columns) - 1), label="rank")
    config = GaLoreConfig(lr=0.05, rank=rank, update_gap=gap, scale=0.5, beta2=0.95, weight_decay=decay)
    parameter = nn.Parameter(drawn((rows, columns), 0))
    own = galore.build(config, {"w": parameter}, local_runtime())
    weight = parameter.detach().double().clone()
    first = second = basis = torch.empty(0)
    for step in range(5):
        parameter.grad = drawn((rows, columns), step + 1)
        gradient = parameter.grad.double()
        own.step()
        g = gradient if rows >= columns else gradient.T
        if step % gap == 0:
            # Of a vector v and −v, both of them right, that which float32 came to: moments depend on it.
            basis = torch.linalg.svd(g).Vh[:rank].T
            found = own.state[parameter]["basis"].double()
            basis = basis * (basis * found).sum(0).sign()
        r = g @ basis
        first = 0.9 * first + 0.1 * r if step else 0.1 * r
        second = 0.95 * second + 0.05 * r**2 if step else 0.05 * r**2
        update = (first / (1 - 0.9 ** (step + 1))) / ((second / (1 - 0.95 ** (step + 1))).sqrt() + 1e-8) @ basis.T
        weight = weight * (1 - 0.05 * decay) - 0.05 * 0.5 * (update if rows >= columns else update.T)
    torch.testing.assert_close(parameter.detach().double(), weight, atol=2e-3, rtol=1e-3)


def test_an_update_lies_in_the_basis_and_its_moments_take_the_room_that_is_said() -> None:
    config = GaLoreConfig(rank=4, update_gap=2)
    parameters = {str(shape): nn.Parameter(torch.zeros(shape)) for shape in SHAPES}
    optimizer = galore.build(config, parameters, local_runtime())
    for parameter in parameters.values():
        parameter.grad = torch.randn(parameter.shape)
    optimizer.step()
    assert [int(torch.linalg.matrix_rank(p.detach())) for p in parameters.values()] == [4, 4, 4]
    held = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    bytes_held = sum(tensor.numel() * tensor.element_size() for tensor in held)
    assert bytes_held == config.state_bytes(SHAPES) < 0.5 * AdamWConfig().state_bytes(SHAPES)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_gradient_of_zeros_moves_nothing_and_gives_no_basis(shape: tuple[int, int]) -> None:
    """The MLPs' first layer has one in a fresh model's first step: a basis of it would serve for update_gap steps."""
    start, config = drawn(shape, 0), GaLoreConfig(rank=4, update_gap=2, weight_decay=0.1)
    late, fresh = (nn.Parameter(start.clone()) for _ in range(2))
    optimizer, other = (galore.build(config, {"w": weight}, local_runtime()) for weight in (late, fresh))
    late.grad = torch.zeros(shape)
    optimizer.step()
    assert torch.equal(late, start)
    for step in range(1, 4):
        for weight, its in ((late, optimizer), (fresh, other)):
            weight.grad = drawn(shape, step)
            its.step()
    assert torch.equal(late, fresh)
    basis = optimizer.state[late]["basis"]
    late.grad = torch.zeros(shape)
    for _ in range(3):
        optimizer.step()
    assert torch.isfinite(late).all()
    assert torch.equal(optimizer.state[late]["basis"], basis)


def test_it_keeps_the_contract_and_resumes_bit_for_bit_between_two_projections() -> None:
    check_optimizer(galore.build, GaLoreConfig(rank=4, update_gap=2, lr=0.1, weight_decay=0.1))


def test_a_matrix_that_must_be_whole_belongs_to_one_process() -> None:
    elementwise = [name for name in ("w",) if getattr(GaLoreConfig(), "elementwise", False)]
    (share,) = shares({"w": (64, 32)}, shard="optimizer", world_size=2, elementwise=elementwise).values()
    assert share.kind == "owned"


RECIPE = """
format = 1
name = "galored"
[stages.tok]
use = "tokenizer"
vocab_size = 2048
[stages.tok.data.docs]
use = "pydocs"
[stages.base]
use = "pretrain"
tokenizer = "stage:tok"
steps = 2
total_batch_size = 256
[stages.base.model]
use = "gpt"
depth = 2
dim = 64
head_dim = 32
sequence_len = 128
[stages.base.data]
from = "stages.tok.data"
[stages.base.optim.matrices]
use = "galore"
{said}
[stages.base.optim.rest]
use = "adamw"
match = {rest}
"""
MATCH, REST = (
    'match = "blocks.*.mlp.*"',
    '["wte.*", "head.*", "value_embeds.*", "*_lambda*", "smear_gate.*", "*.attn.*"]',
)


@pytest.mark.parametrize(
    ("said", "rest", "code", "expected"),
    [
        (f"{MATCH}\nrank = 0", REST, "E104", "rank is 0"),
        (f"{MATCH}\nrank = 64", REST, "E115", "`blocks.0.mlp.up.weight` of shape (256, 64) has rank 64 at most"),
        (f"{MATCH}\nrank = 16\nrnk = 3", REST, "E102", "unknown key `rnk`"),
        (f"{MATCH}\nrank = 16\nupdate_gap = 0", REST, "E104", "update_gap is 0"),
        (f"{MATCH}\nrank = 16\nscale = -1.0", REST, "E104", "scale is -1.0"),
        (f"{MATCH}\nrank = 16\nbeta2 = 1.0", REST, "E115", "beta2 is below 1"),
        ('match = ["*_lambda*", "blocks.*.mlp.*"]\nrank = 16', REST.replace('"*_lambda*", ', ""), "E115", "no matrix"),
    ],
)
def test_what_cannot_be_is_said_when_the_recipe_is_read(
    tmp_path: Path, said: str, rest: str, code: str, expected: str
) -> None:
    path = tmp_path / "galored.toml"
    path.write_text(RECIPE.format(said=said, rest=rest))
    with pytest.raises(InputError) as caught:
        load_recipe(path, registry=REGISTRY, machine=CPU)
    assert any(found.code == code and expected in str(found.message) for found in caught.value.diagnostics), (
        caught.value.diagnostics
    )


def test_with_almost_all_columns_it_is_nearly_adamw_on_a_gradient_of_low_rank() -> None:
    """A gradient that lies in the basis loses nothing by it; one column at a time AdamW is the same in any basis."""
    gradient = torch.outer(torch.arange(1.0, 9.0), torch.eye(6)[2])
    weights = {kind: nn.Parameter(torch.zeros(8, 6)) for kind in ("galore", "adamw")}
    optimizers = [
        galore.build(GaLoreConfig(lr=0.1, rank=1, scale=1.0, beta2=0.95), {"w": weights["galore"]}, local_runtime()),
        adamw.build(AdamWConfig(lr=0.1, beta1=0.9, beta2=0.95, eps=1e-8), {"w": weights["adamw"]}, local_runtime()),
    ]
    for _ in range(4):
        for weight, optimizer in zip(weights.values(), optimizers, strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(weights["galore"], weights["adamw"], atol=1e-6, rtol=1e-5)
