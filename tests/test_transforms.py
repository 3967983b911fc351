"""The first-party transforms: what stays the same, what is quantised, and where they are refused."""

import math
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn

from nanochat.errors import StageError
from nanochat.hardware import Hardware, Machine
from nanochat.model.gpt import GPT
from nanochat.recipe.load import load_recipe
from nanochat.registry import load_registry
from nanochat.running.plan import make_plan
from nanochat.running.store import Store
from nanochat.runtime import local_runtime
from nanochat.testing.tiny import tiny_model
from nanochat_plugins.transforms import activation_checkpointing, fp8
from nanochat_plugins.transforms.activation_checkpointing_config import ActivationCheckpointingConfig
from nanochat_plugins.transforms.fp8_config import Fp8Config

RUNTIME = local_runtime()
IDS = torch.randint(300, (2, 32), generator=torch.Generator().manual_seed(1))
CAN_FP8 = not fp8.disagreement(torch.device("cpu"))


def gradients(model: GPT, **changes: Any) -> dict[str, Tensor]:
    model.train()
    model(IDS, IDS, **changes).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


# activation_checkpointing


@pytest.mark.parametrize("every", [1, 2, 3])
def test_blocks_that_are_computed_again_give_the_same_loss_and_gradients_to_the_last_bit(every: int) -> None:
    plain, again = tiny_model(depth=4), tiny_model(depth=4)
    activation_checkpointing.build(ActivationCheckpointingConfig(every=every), again, RUNTIME)
    assert again.state_dict().keys() == plain.state_dict().keys()
    documents = (torch.arange(32) // 10).expand(2, -1)
    expected, found = gradients(plain, documents=documents), gradients(again, documents=documents)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_blocks_are_computed_twice_in_training_and_once_in_evaluation() -> None:
    model, calls = tiny_model(depth=4), list[int]()
    for index, block in enumerate(model.blocks):
        block.attn.register_forward_hook(lambda *_, index=index: calls.append(index))
    activation_checkpointing.build(ActivationCheckpointingConfig(every=2), model, RUNTIME)
    gradients(model)
    assert sorted(calls) == [0, 0, 1, 2, 2, 3]
    calls.clear()
    with torch.no_grad():
        model(IDS, IDS)
    assert calls == [0, 1, 2, 3]


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(StageError, match="Linear has no list of modules called `blocks`"):
        activation_checkpointing.build(ActivationCheckpointingConfig(), nn.Linear(2, 2), RUNTIME)


# fp8


def rounded(x: float, *, mantissa: int, lowest: int, largest: float) -> float:
    """The nearest number with so many bits behind the point and no exponent below `lowest`, ties to even (IEEE 754)."""
    if x == 0:
        return 0.0
    step = 2.0 ** (max(math.frexp(abs(x))[1] - 1, lowest) - mantissa)
    return math.copysign(min(round(abs(x) / step) * step, largest), x)


E4M3 = {"mantissa": 3, "lowest": -6, "largest": 448.0}  # arXiv 2209.05433, table 1
E5M2 = {"mantissa": 2, "lowest": -14, "largest": 57344.0}


def emulated(x: Tensor, kind: dict[str, Any]) -> Tensor:
    """x as 8 bits keep it, scaled by its own largest value, in float64."""
    scale = float(x.abs().max()) / kind["largest"]
    return torch.tensor([rounded(v / scale, **kind) * scale for v in x.double().flatten().tolist()]).double().view_as(x)


@pytest.mark.skipif(not CAN_FP8, reason="this torch has no 8-bit products on a CPU")
def test_a_linear_in_8_bits_gives_the_products_of_rounded_factors_and_their_gradients() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(48, 32, bias=False)
    model = nn.Sequential(linear)
    x, upstream = torch.randn(2, 16, 48, requires_grad=True), torch.randn(2, 16, 32)
    fp8.build(Fp8Config(smallest=16), model, RUNTIME)
    y = model(x)
    y.backward(upstream)
    x8, w8 = emulated(x.detach(), E4M3).flatten(0, 1), emulated(linear.weight.detach(), E4M3)
    g8 = emulated(upstream, E5M2).flatten(0, 1)
    assert x.grad is not None and linear.weight.grad is not None
    close = {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(y.detach().flatten(0, 1).double(), x8 @ w8.T, **close)
    torch.testing.assert_close(x.grad.flatten(0, 1).double(), g8 @ w8, **close)
    torch.testing.assert_close(linear.weight.grad.double(), g8.T @ x8, **close)
    assert (x8 @ w8.T - x.detach().flatten(0, 1).double() @ linear.weight.detach().double().T).abs().max() > 1e-3


@pytest.mark.skipif(not CAN_FP8, reason="this torch has no 8-bit products on a CPU")
def test_only_large_linears_change_and_only_in_training() -> None:
    shape = {"dim": 128, "head_dim": 64, "n_head": 2, "n_kv_head": 1}
    plain, eight, told = tiny_model(**shape), tiny_model(**shape), list[str]()
    fp8.build(Fp8Config(), eight, attrs.evolve(RUNTIME, note=told.append))
    # q, out, up and down of two blocks; k and v are 64 wide, the gates less, and the head is no layer of its own.
    assert told == ["fp8: 8 linears train in 8 bits"]
    assert eight.state_dict().keys() == plain.state_dict().keys()
    assert not torch.equal(plain(IDS, IDS), eight(IDS, IDS))
    expected, found = gradients(plain), gradients(eight)
    both = [torch.cat([gradient.flatten() for gradient in of.values()]) for of in (found, expected)]
    assert (both[0] - both[1]).norm() < 0.2 * both[1].norm()  # 3 bits behind the point, 2 in gradients
    with torch.no_grad():
        assert torch.equal(plain.eval()(IDS), eight.eval()(IDS))


@pytest.mark.skipif(not CAN_FP8, reason="this torch has no 8-bit products on a CPU")
def test_blocks_in_8_bits_can_be_computed_again() -> None:
    shape = {"dim": 128, "head_dim": 64, "n_head": 2, "n_kv_head": 2}
    one, both = tiny_model(**shape), tiny_model(**shape)
    for model in (one, both):
        fp8.build(Fp8Config(), model, RUNTIME)
    activation_checkpointing.build(ActivationCheckpointingConfig(), both, RUNTIME)
    expected, found = gradients(one), gradients(both)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_device_whose_8_bit_products_fail_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> Tensor:
        raise RuntimeError("torch._scaled_mm is only supported on CUDA devices with compute capability >= 9.0")

    monkeypatch.setattr(torch, "_scaled_mm", failing)
    with pytest.raises(StageError, match=r"E115.*fp8 does not work on this cpu device: RuntimeError: .*>= 9.0"):
        fp8.build(Fp8Config(), tiny_model(), RUNTIME)


@pytest.mark.skipif(not CAN_FP8, reason="this torch has no 8-bit products on a CPU")
def test_a_model_too_small_to_gain_is_refused() -> None:
    with pytest.raises(StageError, match="no linear has both sides of at least 128"):
        fp8.build(Fp8Config(), tiny_model(), RUNTIME)


RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.toml"
BARE = Machine(cuda_devices=1, mps=False, cpu_cores=2, memory_bytes=2**33, name="bare")


@pytest.mark.parametrize(
    "device, dtype, capability, said",
    [
        ("cpu", "bfloat16", None, "computes on cpu, and fp8 needs a CUDA device: leave the transform fp8 out"),
        ("cuda", "bfloat16", 8.0, "asks for fp8, which this GPU does not compute (compute capability 8; 8.9 is needed: "
         "Ada, Hopper or later): leave the transform fp8 out"),
        ("cuda", "float32", 9.0, 'asks for fp8 beside float32: set dtype = "bfloat16", or leave the transform fp8 out'),
        ("cuda", "bfloat16", 9.0, ""),
        ("cuda", "bfloat16", None, ""),
    ],
)  # fmt: skip
def test_what_fp8_lacks_is_known_when_a_recipe_is_planned(
    device: str, dtype: str, capability: float | None, said: str
) -> None:
    hardware = Hardware(device=device, dtype=dtype, nproc_per_node=1)
    assert Fp8Config().lacks(hardware, attrs.evolve(BARE, compute_capability=capability)) == said


def test_a_stage_that_asks_for_fp8_on_a_cpu_is_blocked_with_what_follows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    registry = load_registry()
    recipe = load_recipe(RECIPE, overrides=['stages.base.transforms.eight.use="fp8"'], registry=registry, machine=BARE)
    planned = {stage.name: stage for stage in make_plan(recipe, BARE, Store(), registry).stages}
    assert [stage.action for stage in planned.values()] == ["run", "blocked", "blocked", "blocked"]
    assert planned["base"].why == "computes on cpu, and fp8 needs a CUDA device: leave the transform fp8 out"
