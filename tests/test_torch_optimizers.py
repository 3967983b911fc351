"""`torch:NAME`: torch.optim's own classes through the same door, with torch's own keywords, ranges and results."""

import inspect
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_plugin import CPU, write
from torch import nn

from nanochat.config import rules_of
from nanochat.errors import InputError
from nanochat.recipe.load import load_recipe
from nanochat.recipe.lock import lock_text
from nanochat.registry import load_registry
from nanochat.runtime import local_runtime
from nanochat.testing.optimizer import check_optimizer
from nanochat.training import schedule
from nanochat.training.schedule_config import ScheduleConfig
from nanochat_plugins.optimizers import torch_config, torch_optimizer

LEFT_OUT = {"foreach", "fused", "capturable", "differentiable", "maximize"}
THEIRS = {
    name: cls
    for name in torch.optim.__all__
    if isinstance(cls := getattr(torch.optim, name), type) and cls is not torch.optim.Optimizer
}
REFUSED = {"LBFGS", "SparseAdam"}
USABLE = sorted(THEIRS.keys() - REFUSED)
REGISTRY = load_registry()

RECIPE = """\
format = 1
[stages.tok]
use = "tokenizer"
[stages.tok.data.docs]
use = "pydocs"
[stages.base]
use = "pretrain"
tokenizer = "stage:tok"
steps = 2
total_batch_size = 4096
[stages.base.model]
use = "gpt"
depth = 2
sequence_len = 128
[stages.base.data.docs]
use = "pydocs"
[stages.base.optim.all]
use = "torch:SGD"
match = "*"
"""


def config_class(name: str) -> Any:
    return REGISTRY.config_class("optimizer", f"torch:{name}")


@pytest.mark.parametrize("name", THEIRS)
def test_every_class_of_torch_is_there_with_its_own_keywords_and_defaults(name: str) -> None:
    keywords = {k: p.default for k, p in inspect.signature(THEIRS[name]).parameters.items() if k != "params"}
    ours = {field.name: field.default for field in attrs.fields(config_class(name))}
    assert ours.keys() == keywords.keys() - LEFT_OUT
    # torch's own default of Adafactor's eps holds a None, which no recipe can say.
    assert {k: v for k, v in ours.items() if v is not None} == {
        k: keywords[k] for k, v in ours.items() if v is not None
    }


def values(attribute: "attrs.Attribute[Any]") -> st.SearchStrategy[Any]:
    """What a recipe may give an option, its default and the ends of its range included."""
    rules, default = rules_of(attribute), attribute.default
    if rules.choices or isinstance(default, bool):
        drawn: st.SearchStrategy[Any] = st.sampled_from(rules.choices or (False, True))
    elif attribute.type is int:
        drawn = st.integers(int(rules.minimum or 0), int(rules.maximum or 0))
    else:
        number = st.floats(rules.minimum, rules.maximum)
        drawn = st.tuples(*[number] * len(default)) if isinstance(default, tuple) else number
    return st.just(default) | (st.tuples(number, number) if attribute.name == "eps" and default is None else drawn)


@pytest.mark.parametrize("name", USABLE)
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_what_a_recipe_may_say_torch_takes(name: str, data: st.DataObject) -> None:
    cls = config_class(name)
    config = cls(**{field.name: data.draw(values(field), label=field.name) for field in attrs.fields(cls)})
    if not config.problems():
        parameter = nn.Parameter(torch.ones(3, 2))
        parameter.grad = torch.ones(3, 2)
        torch_optimizer.build(config, {"w": parameter}, local_runtime()).step()


@pytest.mark.parametrize("name", [name for name in USABLE if name != "Rprop"])
def test_each_keeps_the_contract_and_resumes_bit_for_bit(name: str) -> None:
    check_optimizer(torch_optimizer.build, config_class(name)())


def test_rprop_breaks_one_promise_alone_that_its_rate_is_scheduled() -> None:
    with pytest.raises(AssertionError, match=r"breaks one promise(.|\n)*at learning rate 0"):
        check_optimizer(torch_optimizer.build, config_class("Rprop")())


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in USABLE]
    + [("SGD", {"momentum": 0.9}), ("RMSprop", {"momentum": 0.9, "centered": True}), ("AdamW", {"amsgrad": True})],
)
def test_the_state_takes_as_many_bytes_as_the_config_says(name: str, options: dict[str, Any]) -> None:
    config = config_class(name)(**options)
    shapes = [(6, 4), (4, 6)] + ([] if name == "Muon" else [(5,), ()])
    parameters = {str(shape): nn.Parameter(torch.ones(shape)) for shape in shapes}
    optimizer = torch_optimizer.build(config, parameters, local_runtime())
    for parameter in parameters.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    held = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
    assert config.state_bytes(shapes) == sum(tensor.numel() * tensor.element_size() for tensor in held)


def test_the_momentum_and_decay_of_a_torch_optimizer_stay_what_the_recipe_says() -> None:
    config = torch_config.SGD(lr=0.5, momentum=0.25, weight_decay=0.125)
    optimizer = torch_optimizer.build(config, {"w": nn.Parameter(torch.ones(2))}, local_runtime())
    schedule.remember_peaks([optimizer])
    schedule.apply(ScheduleConfig(warmup_steps=0, warmdown_ratio=0.5, final_lr=0.0), [optimizer], 900, 0.75)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.25, 0.25, 0.125)


def test_a_recipe_takes_one_by_name_and_its_lock_gives_the_same_again(tmp_path: Path) -> None:
    said = RECIPE + "lr = 0.1\nmomentum = 0.9\n"
    recipe = load_recipe(write(tmp_path, said), registry=REGISTRY, machine=CPU)
    group = recipe.stages["base"].config.optim["all"]
    assert (group.use, group.config) == ("torch:SGD", torch_config.SGD(lr=0.1, momentum=0.9))
    again = load_recipe(write(tmp_path, lock_text(recipe), "recipe.lock.toml"), registry=REGISTRY, machine=CPU)
    assert again.stages["base"].config.optim == recipe.stages["base"].config.optim


@pytest.mark.parametrize(
    ("said", "code", "expected"),
    [
        ('use = "torch:SDG"', "E201", "there is no optimizer called `torch:SDG`"),
        ('use = "torch:LBFGS"\nhistory_size = 4', "E115", "asks for the loss several times a step"),
        ('use = "torch:SparseAdam"', "E115", "updates by sparse gradients"),
        ('use = "torch:SGD"\nmomentum = "0.9"', "E103", 'momentum is the string "0.9"'),
        ('use = "torch:SGD"\nnesterov = true', "E115", "nesterov wants a momentum above 0"),
        ('use = "torch:Adam"\nbetas = [0.9, 1.0]', "E115", "each of `betas` is below 1"),
        ('use = "torch:Adam"\nbetas = [0.9]', "E103", "betas is"),
        ('use = "torch:Adam"\nfused = true', "E102", "unknown key `fused`"),
        ('use = "torch:Muon"', "E115", "which is no matrix"),
    ],
)
def test_what_torch_would_refuse_is_refused_when_the_recipe_is_read(
    tmp_path: Path, said: str, code: str, expected: str
) -> None:
    path = write(tmp_path, RECIPE.replace('use = "torch:SGD"', said))
    with pytest.raises(InputError) as caught:
        load_recipe(path, registry=REGISTRY, machine=CPU)
    (found,) = caught.value.diagnostics
    assert found.code == code
    assert expected in found.message
    if code == "E201":
        assert found.label.startswith("did you mean `torch:SGD`")


def test_torch_adamw_follows_the_equations_of_the_paper_to_a_millionth() -> None:
    config = torch_config.AdamW(lr=0.1, betas=(0.8, 0.95), eps=1e-10, weight_decay=0.2)
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).double()
    parameter = nn.Parameter(weight.float())
    optimizer = torch_optimizer.build(config, {"w": parameter}, local_runtime())
    m, v = torch.zeros(5, 7).double(), torch.zeros(5, 7).double()
    for t in range(1, 6):
        parameter.grad = torch.randn(5, 7, generator=torch.Generator().manual_seed(t))
        optimizer.step()
        g = parameter.grad.double()
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
        weight = weight * (1 - 0.1 * 0.2) - 0.1 * (m / (1 - 0.8**t)) / ((v / (1 - 0.95**t)).sqrt() + 1e-10)
    torch.testing.assert_close(parameter.detach().double(), weight, atol=1e-6, rtol=1e-6)


def test_torch_sgd_is_gradient_descent() -> None:
    parameter = nn.Parameter(torch.tensor([2.0, -3.0]))
    optimizer = torch_optimizer.build(torch_config.SGD(lr=0.25), {"w": parameter}, local_runtime())
    parameter.square().sum().backward()
    optimizer.step()
    assert parameter.tolist() == [2.0 - 0.25 * 4.0, -3.0 + 0.25 * 6.0]
