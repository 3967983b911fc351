"""Identity: what changes the key of a stage, and what does not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_plugin
from tiny_plugin import CPU, TINY, load, tiny_registry, write

from nanochat.hooks import hookimpl
from nanochat.recipe.content import content_digest
from nanochat.recipe.load import load_recipe
from nanochat.running.keys import stage_keys


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write(tmp_path, TINY)


def keys(path: Path, *overrides: str) -> dict[str, str]:
    return stage_keys(load(path, *overrides))


@pytest.mark.parametrize(
    "override",
    [
        "stages.base.device_batch_size=3",  # execution
        "stages.base.lanes=8",  # equal to its default
        "stages.base.model.dim=128",  # equal to what auto gives
        "stages.base.model.dim=auto",
        "hardware.nproc_per_node=2",
        "name=other",
        "trackers = {}",
    ],
)
def test_a_key_does_not_change_for(tiny: Path, override: str) -> None:
    assert keys(tiny, override) == keys(tiny)


@pytest.mark.parametrize(
    "override, changed",
    [
        ("stages.base.model.mlp_ratio=2", {"base", "sft"}),
        ("stages.tok.vocab_size=600", {"tok", "base", "sft"}),
        ("stages.sft.loss_on=all", {"sft"}),
        ("hardware.dtype=bfloat16", {"base", "sft"}),  # the tokenizer computes in no dtype
        ("seed=1", {"base", "sft"}),  # the tokenizer draws nothing
    ],
)
def test_a_key_changes_for(tiny: Path, override: str, changed: set[str]) -> None:
    before, after = keys(tiny), keys(tiny, override)
    assert {name for name in before if before[name] != after[name]} == changed


def test_a_key_does_not_change_for_the_order_of_keys_comments_or_the_folder(tmp_path: Path) -> None:
    plain = write(tmp_path, TINY + '[stages.base.data.more]\nuse = "words"\n')
    parts = TINY.replace('[stages.base.data.web]\nuse = "words"\nweight = 2\n', "")
    parts += '[stages.base.data.more]\nuse = "words"\n[stages.base.data.web] # moved\nweight = 2\nuse = "words"\n'
    (tmp_path / "elsewhere").mkdir()
    moved = write(tmp_path / "elsewhere", parts)
    assert keys(plain) == keys(moved)
    assert list(load(plain).stages["base"].config.data) == list(load(moved).stages["base"].config.data)


def test_a_path_without_a_fingerprint_of_its_own_is_identified_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc")
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "b.txt").write_text("abc")
    text = TINY.replace('use = "sums"', 'use = "from_file"\nwords = "a.txt"')
    first = keys(write(tmp_path, text))
    assert keys(write(tmp_path, text.replace("a.txt", "moved/b.txt"))) == first
    (tmp_path / "a.txt").write_text("abd")
    assert keys(write(tmp_path, text))["sft"] != first["sft"]


def test_the_launchers_distribution_is_among_the_plugins_of_the_lock(tiny: Path) -> None:
    registry = tiny_registry()
    registry.register(Faraway, name="far", distribution="acme-far", version="1.0")
    found = load_recipe(tiny, overrides=["hardware.launcher=far"], registry=registry, machine=CPU)
    assert "acme-far" in found.plugins
    assert "acme-far" not in load(tiny).plugins


def test_a_name_that_another_distribution_offers_is_another_identity(tiny: Path) -> None:
    found = []
    for blocked in ("acme-far", "acme-tiny"):
        registry = tiny_registry()
        registry.register(SimpleNamespace(**vars(tiny_plugin)), name="far", distribution="acme-far")
        found.append(load_recipe(tiny, overrides=[f"plugins.block=['{blocked}']"], registry=registry, machine=CPU))
    one, other = (stage_keys(recipe) for recipe in found)
    assert not set(one.values()) & set(other.values())


def test_a_stage_that_does_not_say_whether_it_is_numeric_has_the_dtype_in_its_key(tmp_path: Path) -> None:
    text = 'format = 1\n[hardware]\ndevice = "cpu"\n[stages.one]\nuse = "plain"\n'
    found = []
    for dtype in ("float32", "bfloat16"):
        registry = tiny_registry()
        registry.register(Faraway, name="far", distribution="acme-far")
        path = write(tmp_path, text)
        found.append(load_recipe(path, overrides=[f"hardware.dtype={dtype}"], registry=registry, machine=CPU))
    assert stage_keys(found[0]) != stage_keys(found[1])


def test_a_stage_that_does_not_say_whether_it_is_seeded_has_the_seed_in_its_key(tmp_path: Path) -> None:
    text = 'format = 1\n[hardware]\ndevice = "cpu"\n[stages.one]\nuse = "plain"\n'
    registry = tiny_registry()
    registry.register(Faraway, name="far", distribution="acme-far")
    keys = [load_recipe(write(tmp_path, f"seed = {seed}\n{text}"), registry=registry, machine=CPU) for seed in (1, 2)]
    assert stage_keys(keys[0]) != stage_keys(keys[1])


class Faraway:
    """A plugin with a launcher, and a stage whose config says nothing of itself."""

    @staticmethod
    @hookimpl
    def register_launchers(registry: Any) -> None:
        registry.add("far", build="tiny_plugin:Sums")

    @staticmethod
    @hookimpl
    def register_stages(registry: Any) -> None:
        registry.add("plain", build="tiny_plugin:Sums")


def test_weights_beside_their_manifest_are_not_read(tmp_path: Path) -> None:
    for name, content in (("MANIFEST.json", "{}"), ("model.safetensors", "one"), ("loose.txt", "x")):
        (tmp_path / name).write_text(content)
    before = content_digest(tmp_path)
    (tmp_path / "model.safetensors").write_text("two")
    assert content_digest(tmp_path) == before
    (tmp_path / "loose.txt").write_text("y")
    assert content_digest(tmp_path) != before
