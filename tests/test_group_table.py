"""The resolved table of parameter groups: in a run's lock, and said when a stage starts."""

import tomllib
from pathlib import Path

from test_torch_optimizers import RECIPE, REGISTRY
from test_training import Recorder, stage, tokenizer
from tiny_plugin import CPU, write

from nanochat.config import Component
from nanochat.recipe.load import load_recipe
from nanochat.recipe.lock import lock_text
from nanochat.stages.slots import GroupSlot
from nanochat.text.tokenizer import Tokenizer
from nanochat.training.group_table import group_row, table_text
from nanochat_plugins.optimizers.adamw_config import AdamWConfig
from nanochat_plugins.optimizers.muon_config import MuonConfig

__all__ = ["tokenizer"]


def group(name: str, use: str, config: object, lr_factor: float = 1.0) -> Component:
    slot = GroupSlot(match="*", lr_factor=lr_factor)
    return Component(kind="optimizer", name=name, use=use, revision=1, config=config, slot=slot)


def test_a_row_has_the_peak_rate_with_all_factors_and_the_bytes_of_the_state() -> None:
    row = group_row(group("head", "adamw", AdamWConfig(lr=0.008), 0.5), {"head.weight": (100, 10), "b": (7,)}, 0.25)
    assert (row.tensors, row.parameters, row.peak_lr) == (2, 1007, 0.001)
    assert row.state_bytes == 1007 * 8 + 2 * 4  # two float32 moments, and a count of steps each


def test_the_table_is_shown_in_aligned_columns() -> None:
    matrices = group_row(group("matrices", "muon", MuonConfig(weight_decay=0.1)), {"w": (1000, 100)}, 1.0)
    unknown = group_row(group("other", "acme", object()), {"v": (3,)}, 1.0)
    assert table_text([matrices, unknown]).splitlines() == [
        "group     optimizer  tensors  parameters  peak lr  weight decay   state",
        "matrices  muon             1     100,000     0.02           0.1  404 kB",
        "other     acme             1           3",
    ]


def test_a_lock_says_what_every_group_came_to(tmp_path: Path) -> None:
    path = write(tmp_path, RECIPE + "lr = 0.1\nlr_factor = 0.5\nmomentum = 0.9\n")
    recipe = load_recipe(path, registry=REGISTRY, machine=CPU)
    layout = recipe.stages["base"].config.model.config.layout()
    numbers = sum(rows * (columns[0] if columns else 1) for rows, *columns in layout.values())
    kept = tomllib.loads(lock_text(recipe))["lock"]["groups"]
    assert kept == {
        "stages.base.optim.all": {
            "use": "torch:SGD", "tensors": len(layout), "parameters": numbers, "peak_lr": 0.05, "weight_decay": 0.0,
            "state_bytes": 4 * numbers,
        }
    }  # fmt: skip


def test_a_stage_says_its_groups_before_it_trains(tmp_path: Path, tokenizer: Tokenizer) -> None:
    recorder = Recorder()
    made = stage(tmp_path, tokenizer, recorder)
    made.execute()
    first, *said = recorder.notes[0].splitlines()
    assert first == "the parameter groups"
    assert [line.split()[:2] for line in said] == [["group", "optimizer"], ["matrices", "muon"], ["rest", "adamw"]]
    blocks = sum(p.numel() for name, p in made.model.named_parameters() if name.startswith("blocks."))
    assert said[1].split()[3:6] == [f"{blocks:,}", "0.02", "0.1"]
