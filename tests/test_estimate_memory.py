"""The estimated memory against what torch's allocator holds in real training steps.

`pytest tests/test_estimate_memory.py -s` prints the comparison.
"""

import json
from pathlib import Path

import attrs
import pytest
from tracked_memory import tracked

from nanochat.estimating.footprint import footprint, optimizer_groups
from nanochat.recipe.load import load_recipe

QUICKSTART = Path(__file__).parents[1] / "recipes" / "quickstart.toml"
MEBIBYTE = 2**20

SHAPES = {
    "d4, 8 rows of 256, loss dominates": [
        "stages.tok.vocab_size=4096",
        "stages.base.total_batch_size=2048",
        "stages.base.device_batch_size=8",
        "stages.base.model.sequence_len=256",
    ],
    "d4, 8 rows of 256, logits in chunks of 128": [
        "stages.tok.vocab_size=4096",
        "stages.base.total_batch_size=2048",
        "stages.base.device_batch_size=8",
        "stages.base.model.sequence_len=256",
        "stages.base.model.loss_chunk=128",
    ],
    "d4, 8 rows of 256, every second block computed again": [
        "stages.tok.vocab_size=4096",
        "stages.base.total_batch_size=2048",
        "stages.base.device_batch_size=8",
        "stages.base.model.sequence_len=256",
        'stages.base.transforms.again.use="activation_checkpointing"',
        "stages.base.transforms.again.every=2",
    ],
    "d4, 8 rows of 256, gradients in factors": [
        "stages.tok.vocab_size=4096",
        "stages.base.total_batch_size=2048",
        "stages.base.device_batch_size=8",
        "stages.base.model.sequence_len=256",
        'stages.base.transforms.low.use="molegrad"',
        "stages.base.transforms.low.rank_k=8",
        "stages.base.transforms.low.chunk=256",
    ],
    "d6 with grouped heads, 2 passes of 2 rows of 512": [
        "stages.base.model.depth=6",
        "stages.base.model.dim=384",
        "stages.base.model.n_head=6",
        "stages.base.model.n_kv_head=2",
        "stages.base.model.sequence_len=512",
        "stages.base.total_batch_size=2048",
        "stages.base.device_batch_size=2",
    ],
    "d4, 1 row of 256, the optimizer's step dominates": [
        "stages.tok.vocab_size=512",
        "stages.base.model.dim=512",
        "stages.base.model.n_head=8",
        "stages.base.model.sequence_len=256",
        "stages.base.total_batch_size=256",
        "stages.base.device_batch_size=1",
    ],
    "d4 in bfloat16, tied, 2 passes of 1 row of 512": [
        "stages.base.hardware.dtype=bfloat16",
        "stages.base.model.tied=true",
        "stages.base.model.sequence_len=512",
        "stages.base.total_batch_size=1024",
        "stages.base.device_batch_size=1",
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_each_part_of_the_memory_and_the_peak_are_within_a_tenth_of_what_a_step_really_holds(
    shape: str, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    unset = ["stages.sft", "stages.eval"] + ["stages.base.optim.head"] * ("tied" in shape)
    recipe.write_text(f'format = 1\nextends = "{QUICKSTART}"\nunset = {json.dumps(unset)}\n')
    stage = load_recipe(recipe, overrides=SHAPES[shape]).stages["base"]
    config, model = stage.config, stage.config.model
    rows = config.device_batch_size
    accumulates = config.total_batch_size > rows * model.config.sequence_len
    groups = optimizer_groups(config.optim, model.config.layout(), stage.hardware.dtype)
    estimate = footprint(
        model, groups, stage.hardware, rows=rows, accumulates=accumulates, transforms=list(config.transforms.values())
    )
    assert estimate is not None

    table = model.config.padded_vocab_size * model.config.dim

    measured = tracked(stage)

    pairs = {
        "weights": (estimate.weights, measured.weights),
        "gradients": (estimate.gradients, measured.gradients),
        "optimizer": (estimate.optimizer, measured.optimizer),
        # When the forward pass has ended, the gradient of the head is made.
        "activations": (estimate.activations + 4 * table, measured.activations),
        "workspace": (estimate.workspace, measured.workspace),
        "peak": (estimate.peak, measured.peak),
    }
    print(f"\n{shape}: peak at {estimate.peak_at}")
    for part, (expected, found) in pairs.items():
        print(f"  {part:12} estimated {expected / MEBIBYTE:8.1f} MiB, measured {found / MEBIBYTE:8.1f} MiB")
        assert expected == pytest.approx(found, rel=0.10)


@pytest.mark.parametrize(("device", "counts"), [("cpu", True), ("mps", True), ("cuda", False)])
def test_the_copy_that_checkpoints_are_written_from_counts_where_weights_lie_in_the_hosts_memory(
    device: str, counts: bool
) -> None:
    stage = load_recipe(QUICKSTART).stages["base"]
    model, hardware = stage.config.model, attrs.evolve(stage.hardware, device=device)
    groups = optimizer_groups(stage.config.optim, model.config.layout(), "float32")
    beside, within = (
        footprint(model, groups, hardware, rows=1, accumulates=True, snapshot=snapshot) for snapshot in (True, False)
    )
    assert beside is not None
    assert within is not None
    state = sum(group.state for group in groups)
    assert beside.snapshot == 4 * sum(group.parameters for group in groups) + state
    assert beside.peak - within.peak == (beside.snapshot if counts else 0)
    assert within.snapshot == 0
