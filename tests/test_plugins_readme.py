"""plugins/README.md: what it shows is what runs, and the outside distribution that it copies does what it says."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from nanochat.registry import Registry, load_registry
from nanochat.runtime import local_runtime

ROOT = Path(__file__).parent.parent
ACME = ROOT / "tests" / "thirdparty" / "acme"
README = (ROOT / "plugins" / "README.md").read_text()
BLOCKS: dict[str, str] = dict(re.findall(r"^`(\S+)`:\n```\w+\n(.*?)^```$", README, re.DOTALL | re.MULTILINE))
LOOSE = ("proverbs.py", "backwards.py")


@pytest.fixture
def loose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry that knows the README's loose files."""
    for name in LOOSE:
        (tmp_path / name).write_text(BLOCKS[name])
    monkeypatch.setenv("NANOCHAT_PLUGINS_DIR", str(tmp_path))
    return load_registry()


@pytest.fixture
def acme(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ModuleType, Registry]]:
    """The outside distribution's module, and a registry with it alone."""
    monkeypatch.syspath_prepend(str(ACME))
    module = importlib.import_module("nanochat_acme")
    registry = Registry()
    registry.register(module, name="acme")
    yield module, registry
    for name in [name for name in sys.modules if name.partition(".")[0] == "nanochat_acme"]:
        del sys.modules[name]


def test_every_file_it_shows_is_the_outside_distributions_or_runs_here() -> None:
    shown = BLOCKS.keys() - set(LOOSE)
    there = {str(path.relative_to(ACME)) for path in ACME.rglob("*.py")} | {"pyproject.toml"}
    assert shown == there
    for name in shown:
        assert BLOCKS[name] == (ACME / name).read_text()


def test_every_path_it_names_exists() -> None:
    for path in re.findall(r"`((?:nanochat_plugins|nanochat|tests)/[\w/.]+)`", README):
        assert (ROOT / path).exists() or (ROOT / "plugins" / path).exists(), path


def test_its_source_gives_documents_from_any_place(loose: Registry) -> None:
    config = loose.config_class("source", "proverbs")(times=2)
    source = loose.builder("source", "proverbs")(config)
    (shard,) = source.shards("train")
    whole = list(source.documents(shard))
    assert len(whole) == 6
    assert list(source.documents(shard, 4)) == whole[4:]
    (held_out,) = source.shards("validation")
    assert not set(source.documents(held_out)) & set(whole)
    assert held_out.digest != shard.digest


def test_its_tool_answers_and_refuses(loose: Registry) -> None:
    config = loose.config_class("tool", "backwards")(longest=8)
    tool = loose.builder("tool", "backwards")(config)
    assert tool.run("stressed") == "desserts"
    assert tool.run("stressed!") is None


def test_the_outside_task_keeps_its_splits_apart_and_scores_its_references(
    acme: tuple[ModuleType, Registry],
) -> None:
    _, registry = acme
    build, config = registry.builder("task", "opposites"), registry.config_class("task", "opposites")
    train, test = build(config()), build(config(split="test"))
    asked = [{example["messages"][0]["content"] for example in task} for task in (train, test)]
    assert (len(train), len(test)) == (20, 4)
    assert not asked[0] & asked[1]
    for example in train:
        reference = example["messages"][-1]["content"]
        assert train.evaluate(example, f" {reference.capitalize()}\n")
        assert not train.evaluate(example, f"not {reference}")
    assert len(build(config(start=2, stop=9, step=3))) == 3


def test_the_outside_optimizer_follows_the_papers_rule(acme: tuple[ModuleType, Registry]) -> None:
    _, registry = acme
    config = registry.config_class("optimizer", "lion")(lr=0.1, weight_decay=0.5, beta1=0.9, beta2=0.99)
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    optimizer = registry.builder("optimizer", "lion")(config, {"w": weight}, local_runtime())
    expected, momentum = np.array([1.0, -2.0, 3.0]), np.zeros(3)
    for gradient in ([1.0, -1.0, 0.0], [-0.05, 3.0, 2.0], [-4.0, 0.0, -1.0]):
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        update = np.sign(0.9 * momentum + 0.1 * np.array(gradient))
        expected = expected - 0.1 * (update + 0.5 * expected)
        momentum = 0.99 * momentum + 0.01 * np.array(gradient)
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-6)
    restored = registry.builder("optimizer", "lion")(config, {"w": weight}, local_runtime())
    restored.load_state_dict(optimizer.state_dict())
    np.testing.assert_allclose(restored.state[weight]["momentum"].numpy(), momentum, rtol=1e-6)
