"""What a plan says of a stage whose earlier result was made with other values: from what to what, and where."""

from pathlib import Path

from tiny_plugin import TINY, load, write

from nanochat.running.changes import Change, changes_between, description_of
from nanochat.running.keys import stage_keys


def changes(folder: Path, before: str, after: str, stage: str = "base") -> list[Change]:
    """What became of the stage between two texts of the recipe."""
    old, new = load(write(folder, before)), load(write(folder, after))
    described = [description_of(recipe.stages[stage], recipe, stage_keys(recipe)) for recipe in (old, new)]
    return list(changes_between(described[0], described[1], new.stages[stage], new))


def test_the_default_that_a_value_was_or_becomes_is_told(tmp_path: Path) -> None:
    clipped = TINY.replace("steps = 5", "steps = 5\ngrad_clip = 0.5")
    (change,) = changes(tmp_path, TINY, clipped)
    assert (change.field, change.text) == ("grad_clip", "the default 0.0 → 0.5")
    assert change.origin.endswith("recipe.toml:17:13")
    (back,) = changes(tmp_path, clipped, TINY)
    assert (back.text, back.origin) == ("0.5 → the default 0.0", "default")


def test_a_component_that_is_gone_names_the_stage_that_no_longer_has_it(tmp_path: Path) -> None:
    more = TINY.replace("[stages.base.optim.all]", '[stages.base.data.more]\nuse = "words"\n[stages.base.optim.all]')
    (change,) = changes(tmp_path, more, TINY)
    assert (change.field, change.text) == ("data.more", "words → nothing")
    line = TINY.split("\n").index("[stages.base]") + 1
    assert change.origin.startswith("no longer in ")
    assert change.origin.endswith(f"recipe.toml:{line}:9")
