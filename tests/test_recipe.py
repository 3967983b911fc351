"""The recipe language: what is read, merging, overrides, references."""

from pathlib import Path
from typing import Any

import pytest
from tiny_plugin import TINY, Sums, load, tiny_registry, value, write

from nanochat.config import Artifact
from nanochat.recipe.load import locate


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write(tmp_path, TINY)


# What is read


def test_a_recipe_becomes_frozen_typed_configs(tiny: Path) -> None:
    recipe = load(tiny)
    base = recipe.stages["base"].config
    assert recipe.name == "tiny"
    assert recipe.seed == 42
    assert base.tokenizer == Artifact(reference="stage:tok", kind="tokenizer")
    assert base.model.config.dim == 128  # 64 a block
    assert base.model.config.vocab_size == 512  # the tokenizer's
    assert (base.data["web"].slot.weight, base.data["web"].config.size) == (2.0, 10)
    with pytest.raises(AttributeError):
        base.steps = 6


def test_stages_come_after_their_inputs_and_otherwise_as_in_the_file(tmp_path: Path) -> None:
    blocks = TINY.split("\n\n")
    head, tok, base, sft = "\n\n".join(blocks[:2]), blocks[2], blocks[3], blocks[4]
    again = tok.replace("stages.tok", "stages.other")
    recipe = load(write(tmp_path, "\n\n".join([head, sft, again, base, tok])))
    assert list(recipe.stages) == ["tok", "base", "sft", "other"]


def test_an_artifact_is_located_wherever_it_stands_in_a_config(tmp_path: Path) -> None:
    text = TINY + '[stages.sft.data.spell]\nuse = "spell"\nwords = "stage:tok"\n'
    stage = load(write(tmp_path, text)).stages["sft"]
    assert stage.inputs == {"stage:base": "base", "stage:tok": "tok"}
    config = locate(stage, {"stage:base": tmp_path / "b", "stage:tok": tmp_path / "t"})
    assert config.init.folder() == tmp_path / "b"
    assert config.data["spell"].config.words.folder() == tmp_path / "t"


def test_keywords_serve_as_the_config_of_a_component_without_one(tmp_path: Path) -> None:
    text = TINY.replace('use = "sums"', 'use = "sums"\nsize = 7\noperations = ["+"]')
    part = load(write(tmp_path, text)).stages["sft"].config.data["sums"]
    built = tiny_registry().builder("task", "sums")(part.config)
    assert isinstance(built, Sums)
    assert (built.size, built.digits, built.operations) == (7, 2, ["+"])


# Merging


def test_a_child_merges_tables_deeply_and_replaces_scalars_and_arrays(tmp_path: Path) -> None:
    write(tmp_path, TINY.replace('match = "*"', 'match = ["a", "*"]'), "base.toml")
    child = 'extends = "base.toml"\n[stages.base.model]\ndepth = 3\n[stages.base.optim.all]\nmatch = ["*"]\n'
    recipe = load(write(tmp_path, child, "child.toml"))
    assert value(recipe, "stages.base.model.depth") == 3
    assert value(recipe, "stages.base.model.head_dim") == 64
    assert value(recipe, "stages.base.optim.all.match") == ["*"]
    assert [Path(path).name for path in recipe.files] == ["child.toml", "base.toml"]
    assert str(recipe.values["stages", "base", "model", "head_dim"].origin).endswith("base.toml:21:12")


def test_later_parents_are_merged_over_earlier_ones(tmp_path: Path) -> None:
    write(tmp_path, TINY, "one.toml")
    write(tmp_path, "seed = 7\n[stages.base]\nsteps = 8\n", "two.toml")
    recipe = load(write(tmp_path, 'extends = ["one.toml", "two.toml"]\nseed = 9\n'))
    assert (recipe.seed, value(recipe, "stages.base.steps")) == (9, 8)


def test_a_changed_use_replaces_its_table(tmp_path: Path) -> None:
    write(tmp_path, TINY.replace('use = "sgd"', 'use = "sgd"\nlr = 0.5'), "base.toml")
    child = 'extends = "base.toml"\n[stages.base.optim.all]\nuse = "fussy"\nmatch = "*"\n'
    recipe = load(write(tmp_path, child))
    assert not [path for path in recipe.values if path[-1] == "lr"]


def test_unset_takes_away_what_a_parent_has(tmp_path: Path) -> None:
    write(tmp_path, TINY, "base.toml")
    recipe = load(write(tmp_path, 'extends = "base.toml"\nunset = ["stages.sft", "stages.base.data.web.weight"]\n'))
    assert list(recipe.stages) == ["tok", "base"]
    assert value(recipe, "stages.base.data.web.weight") == 1.0


@pytest.mark.parametrize(
    "argument, key, expected",
    [
        ("stages.base.steps=9", "stages.base.steps", 9),
        ("stages.base.steps = 1_000", "stages.base.steps", 1000),
        ("name=other", "name", "other"),
        ('name="other"', "name", "other"),
        ("stages.base.grad_clip=1", "stages.base.grad_clip", 1.0),
        ('stages.base.optim.all.match=["*"]', "stages.base.optim.all.match", ["*"]),
        ('stages.base.optim = {all = {use = "sgd", match = "*", lr = 3}}', "stages.base.optim.all.lr", 3.0),
        ('stages.base.data.more = {use = "words", size = 3}', "stages.base.data.more.size", 3),
        ('stages."base".compile=true', "stages.base.compile", True),
        ("stages.base.total_batch_size=auto", "stages.base.total_batch_size", 2**16),
    ],
)
def test_set_takes_toml_or_a_bare_word(tiny: Path, argument: str, key: str, expected: Any) -> None:
    recipe = load(tiny, argument)
    found = recipe.values[tuple(key.split("."))]
    assert found.value == expected
    assert type(found.value) is type(expected)
    assert found.origin.kind == ("derived" if "auto" in argument else "set")


def test_later_arguments_are_set_over_earlier_ones(tiny: Path) -> None:
    assert load(tiny, "seed=1", "seed=2").seed == 2


# References


def test_from_copies_a_table_with_its_origins_and_merges_the_other_keys_over_it(tmp_path: Path) -> None:
    text = TINY + "all.lr = 0.3\n"
    recipe = load(write(tmp_path, text))
    copied = recipe.values["stages", "sft", "optim", "all", "match"]
    original = recipe.values["stages", "base", "optim", "all", "match"]
    assert copied == original
    assert value(recipe, "stages.sft.optim.all.lr") == 0.3
    assert value(recipe, "stages.base.optim.all.lr") == 0.1


@pytest.mark.parametrize(
    "target, expected",
    [
        ("stages.tok.vocab_size", 512),  # written
        ("stages.base.packing_buffer", 1000),  # a default
        ("stages.base.model.dim", 128),  # derived
        ("stages.base.schedule.warmup_steps", 40),  # in a nested table that is not there
        ("seed", 42),
    ],
)
def test_from_takes_a_value_that_is_written_a_default_or_derived(tmp_path: Path, target: str, expected: int) -> None:
    text = TINY.replace("steps = 5", f'steps = {{ from = "{target}" }}')
    recipe = load(write(tmp_path, text))
    assert value(recipe, "stages.base.steps") == expected
    taken = recipe.values["stages", "base", "steps"].origin
    assert taken == recipe.values[tuple(target.split("."))].origin


def test_from_may_name_what_is_itself_taken_from_elsewhere(tmp_path: Path) -> None:
    text = TINY + '[stages.more]\nfrom = "stages.sft"\n[stages.third]\nuse = "finetune"\ninit = "stage:more"\n'
    text += (
        '[stages.third.data.sums]\nfrom = "stages.more.data.sums"\n[stages.third.optim]\nfrom = "stages.more.optim"\n'
    )
    recipe = load(write(tmp_path, text))
    assert value(recipe, "stages.third.optim.all.use") == "sgd"
