"""plugins/README.md: every hook is in it, every function of its examples runs here, and together they train a model."""

import importlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nanochat import hooks
from nanochat.config import Component
from nanochat.errors import InputError
from nanochat.hardware import Hardware
from nanochat.hooks import KINDS
from nanochat.recipe.load import load_recipe
from nanochat.registry import Registry, load_registry
from nanochat.running.launcher import Launch
from nanochat.running.tracker import Audience
from nanochat.runtime import local_runtime
from nanochat.testing import (
    TinySource,
    check_eval,
    check_optimizer,
    check_source,
    check_task,
    check_tool,
    tiny_model,
    tiny_runtime,
    tiny_subject,
)

ROOT = Path(__file__).parent.parent
ACME = ROOT / "tests" / "thirdparty" / "acme"
README = (ROOT / "plugins" / "README.md").read_text()
BLOCKS: dict[str, str] = dict(re.findall(r"^`(\S+)`:\n```\w+\n(.*?)^```$", README, re.DOTALL | re.MULTILINE))
LOOSE = sorted(name for name in BLOCKS if name.endswith(".py") and "/" not in name)
HOOKS = sorted(name for name, member in vars(hooks).items() if hasattr(member, "nanochat_spec"))


@pytest.fixture
def loose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the README's loose files."""
    for name in LOOSE:
        (tmp_path / name).write_text(BLOCKS[name])
    monkeypatch.setenv("NANOCHAT_PLUGINS_DIR", str(tmp_path))
    return tmp_path


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


# What is documented


def test_every_hook_is_in_the_document_and_in_the_code_of_an_example() -> None:
    assert len(HOOKS) == len(KINDS) + 5
    examples = "\n".join(BLOCKS.values())
    for hook in HOOKS:
        assert f"`{hook}`" in README, hook
        assert f"@hookimpl\ndef {hook}(" in examples, hook


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_row_with_how_it_is_built_as_its_hook_says(kind: str) -> None:
    (row,) = re.findall(rf"^\| `register_{kind}s` \|.*$", README, re.MULTILINE)
    call = row.split("|")[3].strip().strip("`")
    documented = getattr(hooks, f"register_{kind}s").__doc__
    assert kind == "derivation" or call in documented


@pytest.mark.parametrize("kind, columns", [("task", 5), ("eval", 4)])
def test_every_task_and_every_evaluation_has_a_row_without_a_gap(kind: str, columns: int) -> None:
    rows = {cells[0].strip("` "): cells for cells in (line.strip("|").split("|") for line in README.splitlines())}
    for name in load_registry().names(kind):
        assert len([cell for cell in rows[name] if cell.strip()]) == columns, name


def test_every_check_and_tiny_thing_is_in_the_document() -> None:
    testing = importlib.import_module("nanochat.testing")
    for name in testing.__all__:
        assert f"`{name}(" in README, name


def test_the_distributions_files_are_those_of_the_outside_distribution() -> None:
    for name in BLOCKS.keys() - set(LOOSE) - {"everything.toml", "trackers.toml"}:
        assert BLOCKS[name] == (ACME / name).read_text()


def test_every_path_and_every_anchor_it_names_exists() -> None:
    for path in re.findall(r"`((?:nanochat_plugins|nanochat|tests)/[\w/.]+)`", README):
        assert (ROOT / path).exists() or (ROOT / "plugins" / path).exists(), path
    for file, anchor in re.findall(r"\]\((\S*?)#(\S+)\)", README):
        text = (ROOT / "plugins" / file).read_text() if file else README
        headings = [
            re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
            for title in re.findall(r"^#{2,3} (.*)$", text, re.M)
        ]
        assert anchor in headings, anchor


# The loose files


def try_proverbs(registry: Registry, folder: Path) -> None:
    config = registry.config_class("source", "proverbs")(times=2)
    check_source(registry.builder("source", "proverbs"), config)
    source = registry.builder("source", "proverbs")(config)
    (shard,) = source.shards("train")
    assert len(list(source.documents(shard))) == 6


def try_backwards(registry: Registry, folder: Path) -> None:
    tool = registry.builder("tool", "backwards")(registry.config_class("tool", "backwards")(longest=8))
    check_tool(tool, {"stressed": "desserts", "stressed!": None})


def try_surprise(registry: Registry, folder: Path) -> None:
    build, derived = registry.builder("eval", "surprise"), registry.object("derivation", "surprise.longest")
    config = registry.config_class("eval", "surprise")(longest=derived.compute(sequence_len=32))
    check_eval(build, config)
    assert build(config, tiny_subject())["bits"].n == 28  # tokens, and <|bos|> before them


def try_bigram(registry: Registry, folder: Path) -> None:
    config = registry.config_class("model", "bigram")(vocab_size=300)
    model = registry.builder("model", "bigram")(config, tiny_runtime())
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == config.layout()
    ids = torch.arange(12).view(2, 6)
    logits = model(ids)
    assert torch.equal(logits[1, 2], model.table.weight[8])
    by_hand = -logits.log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(model(ids, ids, reduction="none"), by_hand)


def try_freeze(registry: Registry, folder: Path) -> None:
    build, config = registry.builder("transform", "freeze"), registry.config_class("transform", "freeze")
    model = build(config(match="wte.*"), tiny_model(), tiny_runtime())
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["wte.weight"]
    with pytest.raises(InputError, match="no parameter is called `nothing`"):
        build(config(match="nothing"), tiny_model(), tiny_runtime())


def try_census(registry: Registry, folder: Path) -> None:
    part = Component(kind="source", name="tiny", use="tiny", revision=1, config=None)
    told: list[Any] = []
    context = SimpleNamespace(
        build=lambda part: TinySource(["one", "three"]),
        reporter=SimpleNamespace(progress=lambda *facts: told.append(facts)),
    )
    record = registry.builder("stage", "census")(registry.config_class("stage", "census")(data={"tiny": part}), context)
    assert {name: figure.value for name, figure in record.figures.items()} == {
        "tiny.documents": 2,
        "tiny.characters": 8,
    }
    assert told == [(1, 1, {"documents": 2.0})]


def try_scribe(registry: Registry, folder: Path) -> None:
    config = registry.config_class("tracker", "scribe")(path=folder / "diary.txt")
    tracker = Component(kind="tracker", name="diary", use="scribe", revision=1, config=config)
    audience = Audience("base", {"diary": tracker}, registry)
    audience.start({"stage": "base"})
    audience.log(5, {"loss": 2.5})
    audience.finish({"state": "done"})
    assert (folder / "diary.txt").read_text() == "base begins\n5 loss=2.5\ndone\n"


def try_gentle(registry: Registry, folder: Path) -> None:
    hardware = Hardware(device="cpu", dtype="float32", nproc_per_node=1)
    launcher = registry.builder("launcher", "gentle")(hardware)
    launch = Launch(worker=["nice"], stage="base", run=folder, folder=folder, attempt="base-1")
    done = subprocess.run(launcher.command(launch), capture_output=True, text=True, check=True)
    assert int(done.stdout) == min(19, os.nice(0) + 10)
    assert launcher.environment() == {"OMP_WAIT_POLICY": "passive"}
    with pytest.raises(InputError, match="gentle starts one process"):
        registry.builder("launcher", "gentle")(Hardware(device="cpu", dtype="float32", nproc_per_node=2))


def try_watcher(registry: Registry, folder: Path) -> None:
    def told(hook: str, **facts: Any) -> Any:
        answers = dict(registry.observe(hook, **facts))
        return answers["watcher"]

    recipe = SimpleNamespace(stages={"base": None, "SFT": None})
    assert told("validate_recipe", recipe=recipe) == ["stage `SFT`: our names are in small letters"]
    assert told("before_stage", stage="base", folder=str(folder)) is None
    assert told("on_step", stage="base", step=3, figures={"loss": float("nan")}) is None
    assert told("after_stage", stage="base", record={"seconds": 2.5}) is None
    assert json.loads((folder / "diary.json").read_text()) == {"took": 2.5}
    assert told("collect_provenance")["load"] >= 0


TRIES: dict[str, Callable[[Registry, Path], None]] = {
    name: globals()[f"try_{name.removesuffix('.py')}"] for name in LOOSE
}


def functions(code: CodeType) -> Iterator[tuple[str, int]]:
    """Every function in a module's code, by name and line; classes' bodies and comprehensions left out."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_flags & 2 and constant.co_name not in ("<genexpr>", "<listcomp>", "<dictcomp>"):
                yield constant.co_name, constant.co_firstlineno
            yield from functions(constant)


@pytest.mark.parametrize("name", LOOSE)
def test_every_function_of_an_example_is_executed_and_does_what_it_says(name: str, loose: Path, tmp_path: Path) -> None:
    path, seen = loose / name, set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename == str(path):
            seen.add((frame.f_code.co_name, frame.f_code.co_firstlineno))

    threading.setprofile(note)  # a tracker works in a thread of its own
    sys.setprofile(note)
    try:
        registry = load_registry()
        TRIES[name](registry, tmp_path)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert set(functions(compile(BLOCKS[name], str(path), "exec"))) <= seen


def test_all_of_them_together_train_a_model(loose: Path) -> None:
    (loose / "everything.toml").write_text(BLOCKS["everything.toml"])
    environment = {**os.environ, "NANOCHAT_HOME": str(loose / "home")}
    command = [sys.executable, "-m", "nanochat.cli.main", "run", str(loose / "everything.toml")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout + done.stderr
    records = {path.parent.name.split("-")[0]: path for path in (loose / "home" / "store").glob("*/record.json")}
    figures = {name: json.loads(path.read_text())["figures"] for name, path in records.items()}
    assert figures["count"]["wisdom.documents"]["value"] == 300
    assert figures["base"]["moss.bits"]["n"] > 10
    diary = (loose / "diary.txt").read_text().splitlines()
    assert [line for line in diary if line.endswith(("begins", "done"))] == [
        *("count begins", "done", "tok begins", "done", "base begins", "done")
    ]
    losses = [float(found) for found in re.findall(r"loss=(\S+)", "\n".join(diary))]
    assert losses[-1] < losses[0] - 1  # it learns three proverbs
    assert all((path.parent / "diary.json").exists() for path in records.values())


def test_the_observers_rule_stops_a_recipe_that_breaks_it(loose: Path) -> None:
    path = loose / "loud.toml"
    path.write_text(BLOCKS["everything.toml"].replace("stages.count", "stages.COUNT"))
    with pytest.raises(InputError, match="plugin `watcher`: stage `COUNT`: our names are in small letters"):
        load_recipe(path)


# The outside distribution


def test_the_outside_task_and_optimizer_keep_their_contracts(acme: tuple[ModuleType, Registry]) -> None:
    _, registry = acme
    build, config = registry.builder("task", "opposites"), registry.config_class("task", "opposites")
    train, test = build(config()), build(config(split="test"))
    check_task(train)
    check_task(test)
    asked = [{example["messages"][0]["content"] for example in task} for task in (train, test)]
    assert (len(train), len(test)) == (20, 4)
    assert not asked[0] & asked[1]
    check_optimizer(registry.builder("optimizer", "lion"), registry.config_class("optimizer", "lion")(weight_decay=0.1))


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
