"""A tiny plugin for tests of the recipe language: one component of each kind, with every sort of field."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from nanochat import builtin
from nanochat.config import Component, Derivation, Fingerprinted, artifact, component, config, option
from nanochat.data.task import Task
from nanochat.errors import Diagnostic, InputError, wrong_input
from nanochat.hardware import Machine
from nanochat.hooks import hookimpl
from nanochat.recipe.load import load_recipe
from nanochat.recipe.resolved import Recipe
from nanochat.registry import Registry

CPU = Machine(cuda_devices=0, mps=False, cpu_cores=2, memory_bytes=2**33, name="a test's machine")
EIGHT_GPUS = Machine(cuda_devices=8, mps=False, cpu_cores=64, memory_bytes=2**40, name="a node")


@config
class TextConfig(Fingerprinted):
    """A source that reads one file."""

    path: Path = option(Path("nowhere"), execution=True)
    words: int = option(100, minimum=1)

    def fingerprint(self) -> Mapping[str, Any]:
        if not self.path.exists():
            raise wrong_input("E301", f"there is no file {self.path.name}")
        return {"size": self.path.stat().st_size}


@config
class EverythingConfig:
    """A source with every type of field."""

    whole: int = option(1, minimum=0, maximum=10)
    real: float = option(1)
    endless: float = option(1.0, finite=False)
    flag: bool = option(False)
    text: str = option("text")
    choice: Literal["a", "b", 3] = option("a")
    maybe: int | None = option(None)
    either: str | list[str] = option("one")
    items: list[int] = option([])
    table: dict[str, float] = option({})
    anything: Any = option(0)


@config
class SgdConfig:
    """An optimizer."""

    lr: float = option(0.1, minimum=0.0)
    scaled: float = option(derive="tiny.scaled")
    decay: float = option(0.5)


@config
class FussyConfig:
    """An optimizer whose settings must fit together."""

    low: int = option(1)
    high: int = option(2)

    def problems(self) -> list[str]:
        return [] if self.low < self.high else [f"low ({self.low}) must be below high ({self.high})"]


@config
class SpellConfig:
    """A task that takes words from an artifact."""

    words: Any = artifact("tokenizer")
    size: int = option(10, minimum=1)


@config
class ScoreConfig:
    """An evaluation that holds another component."""

    task: Component = component("task")


class Sums(Task):
    """A task without a config class: its keywords serve."""

    def __init__(self, size: int = 10, *, digits: int = 2, operations: list[str] | None = None) -> None:
        super().__init__()
        self.size, self.digits, self.operations = size, digits, operations


def from_file(words: Path) -> list[str]:
    """A builder that takes a path."""
    return words.read_text().split()


SCALED = Derivation(
    inputs={"lr": "lr", "factor": "slot.lr_factor"}, compute=lambda lr, factor: lr * factor, sentence="lr × factor"
)


@hookimpl
def register_sources(registry: Any) -> None:
    registry.add("text", build="tiny_plugin:TextConfig", config="tiny_plugin:TextConfig")
    registry.add("everything", build="tiny_plugin:EverythingConfig", config="tiny_plugin:EverythingConfig", revision=3)
    registry.add("words", build="tiny_plugin:Sums")


@hookimpl
def register_optimizers(registry: Any) -> None:
    registry.add("sgd", build="tiny_plugin:SgdConfig", config="tiny_plugin:SgdConfig")
    registry.add("fussy", build="tiny_plugin:FussyConfig", config="tiny_plugin:FussyConfig")


@hookimpl
def register_tasks(registry: Any) -> None:
    registry.add("sums", build="tiny_plugin:Sums")
    registry.add("from_file", build="tiny_plugin:from_file")
    registry.add("spell", build="tiny_plugin:SpellConfig", config="tiny_plugin:SpellConfig")


@hookimpl
def register_evals(registry: Any) -> None:
    registry.add("score", build="tiny_plugin:ScoreConfig", config="tiny_plugin:ScoreConfig")


@hookimpl
def register_launchers(registry: Any) -> None:
    for name in ("local", "torchrun"):
        registry.add(name, build="tiny_plugin:Sums")


@hookimpl
def register_derivations(registry: Any) -> None:
    registry.add("tiny.scaled", build="tiny_plugin:SCALED")


def tiny_registry() -> Registry:
    """The core and this plugin, nothing of what is installed."""
    import tiny_plugin

    registry = Registry()
    registry.register(builtin, name="nanochat", distribution="nanochat-run", version="0.1.0")
    registry.register(tiny_plugin, name="tiny", distribution="acme-tiny", version="1.2")
    return registry


shared_registry = functools.cache(tiny_registry)

TINY = """\
format = 1
name = "tiny"

[hardware]
device = "cpu"

[stages.tok]
use = "tokenizer"
vocab_size = 512
[stages.tok.data.web]
use = "words"

[stages.base]
use = "pretrain"
tokenizer = "stage:tok"
steps = 5
total_batch_size = 4096
[stages.base.model]
use = "gpt"
depth = 2
head_dim = 64
[stages.base.data.web]
use = "words"
weight = 2
[stages.base.optim.all]
use = "sgd"
match = "*"

[stages.sft]
use = "finetune"
init = "stage:base"
[stages.sft.data.sums]
use = "sums"
[stages.sft.optim]
from = "stages.base.optim"
"""


def write(folder: Path, text: str, name: str = "recipe.toml") -> Path:
    """A recipe file with this text."""
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def load(path: Path, *overrides: str, machine: Machine = CPU) -> Recipe:
    """Load with the tiny registry on a fixed machine."""
    return load_recipe(path, overrides=overrides, registry=tiny_registry(), machine=machine)


def value(recipe: Recipe, key: str) -> Any:
    """The value of a key that needs no quotes."""
    return recipe.values[tuple(key.split("."))].value


def refused(path: Path, *overrides: str) -> list[Diagnostic]:
    """What is said of a recipe that does not load."""
    with pytest.raises(InputError) as caught:
        load(path, *overrides)
    return list(caught.value.diagnostics)


def places(found: list[Diagnostic]) -> list[tuple[str, str]]:
    """Code and file:line:col of each, the file by its name alone."""
    return [(d.code, str(d.location).rpartition("/")[2] if d.location else "") for d in found]
