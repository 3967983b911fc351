"""What a stage's key depends on: every identity value, the data, the revisions; and nothing else."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from identity_snapshot import PATH, current, unraised
from tiny_plugin import CPU, TINY, load, tiny_registry, write

from nanochat.config import config, option
from nanochat.errors import InputError
from nanochat.hooks import hookimpl
from nanochat.recipe.load import load_recipe
from nanochat.recipe.notation import key_text, value_text
from nanochat.registry import Registry, load_registry
from nanochat.running.keys import stage_keys

RICH = TINY.replace("[stages.base.model]", "[stages.base.schedule]\nwarmup_steps = 2\n[stages.base.model]").replace(
    '[stages.base.data.web]\nuse = "words"',
    '[stages.base.data.all]\nuse = "everything"\n[stages.base.data.web]\nuse = "words"',
)
FIXED = ("use", "match", "launcher", "name", "require", "block")
"""Values that name something, of which there is no other one to try."""


def other(value: Any) -> Any:
    """A value of the same type that most fields take."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value * 2 or 1
    if isinstance(value, float):
        return value / 2 or 0.25
    if isinstance(value, list):
        return [*value, *value] if value else [1]
    if isinstance(value, dict):
        return {"another": 0.5}
    words = {"best_fit": "stream", "assistant": "all", "current": "classic", "cosine": "constant", "SSSL": "SL"}
    words |= {"float32": "bfloat16", "a": "b", "cpu": "mps", "highest": "high"}
    return words.get(value, f"{value}x")


NUMERIC = {("hardware", "dtype"), ("hardware", "matmul_precision")}


def test_a_key_changes_for_each_identity_value_and_for_no_other(tmp_path: Path) -> None:
    path = write(tmp_path, RICH)
    recipe = load(path)
    before, tried = stage_keys(recipe), {True: 0, False: 0}
    for place, leaf in recipe.values.items():
        if place[-1] in FIXED or leaf.reference or (place[0] == "hardware" and place not in NUMERIC):
            continue
        argument = f"{key_text(place)}={value_text(other(leaf.value))}"
        try:
            after = stage_keys(load(path, argument))
        except InputError:
            continue  # the field takes only some values, or fits only others
        changed = {name for name in before if before[name] != after[name]}
        identity = leaf.identity or place in NUMERIC  # which is every stage's own
        assert bool(changed) == identity, argument
        if identity and place[0] == "stages":
            assert place[1] in changed, argument
        tried[identity] += 1
    assert tried[True] >= 60 and tried[False] >= 15, tried


def test_a_key_changes_for_the_data_and_for_what_is_upstream_of_it(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("one")
    text = TINY.replace(
        '[stages.tok.data.web]\nuse = "words"', '[stages.tok.data.web]\nuse = "text"\npath = "words.txt"'
    )
    path = write(tmp_path, text)
    before = stage_keys(load(path))
    (tmp_path / "words.txt").write_text("one and two")
    after = stage_keys(load(path))
    assert all(before[name] != after[name] for name in ("tok", "base", "sft"))


@config
class Old:
    """A source as it was."""

    size: int = option(10)


@config
class Grown:
    """The same source with one field more."""

    size: int = option(10)
    shuffled: bool = option(False)


def registry_with(cls: str, *, revision: int = 1) -> Registry:
    class Plugin:
        @staticmethod
        @hookimpl
        def register_sources(registry: Any) -> None:
            registry.add("grows", build=f"test_identity:{cls}", config=f"test_identity:{cls}", revision=revision)

    registry = tiny_registry()
    registry.register(Plugin, name="grows")
    return registry


def test_a_key_does_not_change_for_a_new_field_with_a_default_and_does_for_a_raised_revision(tmp_path: Path) -> None:
    path = write(tmp_path, TINY.replace('[stages.tok.data.web]\nuse = "words"', '[stages.tok.data.web]\nuse = "grows"'))

    def keys(registry: Registry) -> dict[str, str]:
        return stage_keys(load_recipe(path, registry=registry, machine=CPU))

    assert keys(registry_with("Old")) == keys(registry_with("Grown"))
    assert keys(registry_with("Old")) != keys(registry_with("Old", revision=2))


def test_a_key_does_not_change_for_a_moved_folder_with_its_data(tmp_path: Path) -> None:
    text = TINY.replace(
        '[stages.tok.data.web]\nuse = "words"', '[stages.tok.data.web]\nuse = "text"\npath = "words.txt"'
    )
    found = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "words.txt").write_text("one")
        found.append(stage_keys(load(write(tmp_path / name, text))))
    assert found[0] == found[1]


def test_a_changed_default_of_ours_demands_a_raised_revision() -> None:
    before, now = json.loads(PATH.read_text()), current(load_registry())
    assert not unraised(before, now), (
        "raise the revision where it is registered, then: python tests/identity_snapshot.py"
    )
    assert before == json.loads(json.dumps(now)), "new, and harmless; write it down: python tests/identity_snapshot.py"


@pytest.mark.parametrize(
    "change, demands",
    [
        (lambda c: c["defaults"].update(mlp_ratio=8), True),
        (lambda c: c["defaults"].pop("mlp_ratio"), True),
        (lambda c: c["defaults"].update(dim="auto: another.rule"), True),
        (lambda c: (c["defaults"].update(mlp_ratio=8), c.update(revision=c["revision"] + 1)), False),
        (lambda c: c["defaults"].update(brand_new=True), False),
    ],
)
def test_the_snapshot_tells_a_changed_default_from_a_new_field(change: Any, demands: bool) -> None:
    before = json.loads(PATH.read_text())
    now = copy.deepcopy(before)
    change(now["model:gpt"])
    assert bool(unraised(before, now)) == demands
