"""Lanes and processes that do not fit, refused when the recipe is read."""

from pathlib import Path

import attrs
import pytest
from test_torch_optimizers import RECIPE, REGISTRY
from tiny_plugin import CPU, write

from nanochat.errors import InputError
from nanochat.recipe.load import load_recipe

SMALL = attrs.evolve(CPU, cpu_cores=2)


def faults(folder: Path, *overrides: str) -> list[tuple[str, str, str]]:
    """Code, message and remedy of what is wrong with the recipe (32 rows of 128 tokens a step, 8 lanes)."""
    try:
        load_recipe(write(folder, RECIPE), overrides=overrides, registry=REGISTRY, machine=SMALL)
    except InputError as fault:
        return [(found.code, found.message, found.help) for found in fault.diagnostics]
    return []


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_processes_that_divide_the_lanes_are_welcome(processes: int, tmp_path: Path) -> None:
    assert faults(tmp_path, f"hardware.nproc_per_node={processes}", "stages.base.determinism=elastic",
                  "stages.tok.hardware.nproc_per_node=1") == []  # fmt: skip


def test_more_processes_than_lanes_and_those_that_do_not_divide_them_are_refused(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, "stages.base.hardware.nproc_per_node=16")
    assert found == (
        "E115",
        "stages.base.lanes is 8, which 16 processes cannot share equally",
        "start 1 or 2 or 4 or 8 processes, or set `lanes` to a multiple of 16",
    )


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["lanes=12", "total_batch_size=12288"], "wants lanes in a power of 2, not 12"),
        (["lanes=64"], "is 4,096, no multiple of 128 tokens a row × 64 lanes"),
        (["hardware.shard=full"], 'does not go with shard = "full"'),
    ],
)
def test_what_an_elastic_sum_cannot_be_made_of_is_refused(overrides: list[str], expected: str, tmp_path: Path) -> None:
    (found,) = faults(tmp_path, "stages.base.determinism=elastic", *(f"stages.base.{o}" for o in overrides))
    assert found[0] == "E115"
    assert expected in found[1]
    assert faults(tmp_path, *(f"stages.base.{o}" for o in overrides)) == []


FINETUNE = (
    RECIPE
    + """
[stages.sft]
use = "finetune"
init = "stage:base"
total_batch_size = 4096
determinism = "elastic"
[stages.sft.data.sums]
use = "arithmetic"
[stages.sft.optim.all]
use = "adamw"
match = "*"
"""
)


def test_an_elastic_finetuning_says_its_steps(tmp_path: Path) -> None:
    path = write(tmp_path, FINETUNE)
    with pytest.raises(InputError, match="wants `steps`"):
        load_recipe(path, registry=REGISTRY, machine=SMALL)
    assert load_recipe(path, overrides=["stages.sft.steps=10"], registry=REGISTRY, machine=SMALL).stages["sft"]
