"""The recipes of recipes/: what each of them stands for, that all are planned and estimated, and small ones run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from core_bundle import tasks, write
from tiny_plugin import CPU, EIGHT_GPUS, value

from nanochat.cli.estimate import command as estimate
from nanochat.cli.plan import command as plan
from nanochat.model.sizes import parameters
from nanochat.recipe.load import load_recipe, read_sweep
from nanochat.recipe.resolved import Recipe
from nanochat.registry import load_registry
from nanochat.sweeping.axes import trials
from nanochat.training import schedule

RECIPES = Path(__file__).parents[1] / "recipes"
NAMES = sorted(path.stem for path in RECIPES.glob("*.toml"))
BUILT_IN = '{use = "pydocs"}'


def recipe(name: str, *overrides: str) -> Recipe:
    return load_recipe(RECIPES / f"{name}.toml", overrides=overrides, machine=EIGHT_GPUS)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_called_after_its_file_and_is_planned_anywhere(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    monkeypatch.setattr("nanochat.cli.plan.probe_machine", lambda: CPU)
    shown = CliRunner().invoke(plan, [str(RECIPES / f"{name}.toml"), "--json"])
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    assert found["recipe"] == name
    stages = {stage["stage"]: stage["action"] for stage in found["stages"]}
    assert stages["tok"] == "run"
    assert stages["base"] == ("run" if name in ("cpu", "molegrad_cpu", "quickstart", "rl") else "blocked")


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_fits_what_it_is_made_for_and_has_the_text_that_it_reads(name: str) -> None:
    """GPUs of 80 GB, or 8 GiB of main memory; web text is read once, give or take a fiftieth."""
    shown = CliRunner().invoke(estimate, [str(RECIPES / f"{name}.toml"), "--gpu", "h100", "--json"])
    assert shown.exit_code == 0, shown.output
    for stage in json.loads(shown.stdout)["stages"]:
        if (training := stage["training"]) is not None:
            assert training["device_batch_size"] <= training["fitting_batch_size"], stage["name"]
            for source in training["data"]:
                if source["shards"] is not None:
                    assert source["shards_needed"] <= 1.02 * source["shards"], source


@pytest.mark.parametrize("path", sorted((RECIPES / "small").glob("*.toml")), ids=lambda path: path.stem)
def test_a_small_recipe_is_for_any_cpu_and_leaves_nothing_that_decides_to_the_machine(path: Path) -> None:
    found, large = load_recipe(path, machine=CPU), load_recipe(path, machine=EIGHT_GPUS)
    assert found.name == path.stem
    for name, stage in found.stages.items():
        assert stage.identity(seed=1) == large.stages[name].identity(seed=1)
        assert (stage.hardware.device, stage.hardware.dtype) == ("cpu", "float32")


def test_each_ablation_is_a_recipe_of_its_own_that_shares_the_tokenizer() -> None:
    path, registry = RECIPES / "small" / "ablations.toml", load_registry()
    table = read_sweep(path)
    made = [found for found in trials(table.axes, table.ranges, table.draws, seed=0) if found[-1].text == "seed=1"]
    recipes = [load_recipe(path, changes=changes, machine=CPU, registry=registry) for changes in made]
    for name, different in (("tok", 1), ("base", len(made))):
        assert len({json.dumps(found.stages[name].identity(seed=1), sort_keys=True) for found in recipes}) == different
    assert made[0][0].text == "variant=current"


def test_low_rank_gradients_are_compared_with_dense_ones_that_differ_in_the_mlps_alone() -> None:
    """And memory at every length of the rows, of one row a step."""
    registry = load_registry()

    def each(name: str) -> list[tuple[str, Any]]:
        path = RECIPES / "small" / f"{name}.toml"
        table = read_sweep(path)
        made = trials(table.axes, table.ranges, table.draws, seed=0)
        return [
            (changes[0].text.partition("=")[2], load_recipe(path, changes=changes, machine=CPU, registry=registry))
            for changes in made
            if changes[-1].text != "seed=2" and changes[-1].text != "seed=3"
        ]

    losses = {name: found.stages["base"].config for name, found in each("molegrad_compare")}
    assert {(c.steps, c.total_batch_size, c.model.config.sequence_len) for c in losses.values()} == {(146, 2048, 1024)}
    for group in ("attention", "head", "embeddings", "scalars"):
        assert len({str(config.optim[group]) for config in losses.values()}) == 1
    ways = {
        name: (config.optim["mlps"].use, *(t.use for t in config.transforms.values()))
        for name, config in losses.items()
    }
    assert ways == {
        "dense": ("adamw",),
        "activation checkpointing": ("adamw", "activation_checkpointing"),
        **{f"galore, k = {k}": ("galore",) for k in (8, 32, 128)},
        **{f"molegrad, k = {k}": ("adamw", "molegrad") for k in (8, 32, 128)},
        "dense, Muon": ("muon",),
        "molegrad, Muon, k = 32": ("muon", "molegrad"),
    }
    rows = [(name, found.stages["base"].config) for name, found in each("molegrad_memory")]
    assert len(rows) == 8 * 4
    assert {config.model.config.sequence_len for _, config in rows} == {1024, 2048, 4096, 8192}
    assert all(config.total_batch_size == config.model.config.sequence_len for _, config in rows)


def test_the_sizes_of_the_field_are_those_that_are_known() -> None:
    """d20 of 561M parameters for 21,400 steps; 5,568 steps of a d24."""
    classic = recipe("classic").stages["base"].config
    assert parameters(classic.model.config.layout()) == 560_988_160
    assert classic.steps * classic.total_batch_size == 20 * 560_988_160
    depths = {name: recipe(name).stages["base"].config.model.config.depth for name in NAMES}
    assert depths == {
        "classic": 20, "cpu": 4, "gpt2": 26, "gsm8k": 24, "miniseries": 12, "molegrad": 12, "molegrad_cpu": 4,
        "quickstart": 4, "rl": 4, "run1000": 32, "speedrun": 24,
    }  # fmt: skip
    assert recipe("speedrun").stages["base"].config.steps == 5568


@pytest.mark.parametrize(
    "step, lr, momentum", [(0, 1.0, 0.85), (150, 1.0, 0.90), (300, 1.0, 0.95), (21_399, 0.0, 0.95)]
)
def test_the_classic_schedule_has_no_warmup_and_falls_to_nothing_in_its_last_fifth(
    step: int, lr: float, momentum: float
) -> None:
    rates = recipe("classic").stages["base"].config.schedule
    assert schedule.lr_multiplier(rates, step, step / 21_400) == pytest.approx(lr, abs=1e-3)
    assert schedule.momentum(rates, step, step / 21_400) == pytest.approx(momentum)
    assert schedule.lr_multiplier(rates, 19_260, 0.9) == pytest.approx(0.5)
    assert schedule.decay_multiplier(rates, step / 21_400) == 1.0


def test_every_value_of_the_low_rank_recipe_that_can_change_a_result_is_written_and_a_32_gb_card_holds_its_step() -> (
    None
):
    found = recipe("molegrad")
    assert [path for path, its in found.values.items() if its.identity and its.origin.kind != "file"] == []
    assert [path for path, its in found.values.items() if its.origin.kind == "derived"] == []
    base = found.stages["base"].config
    assert (base.model.config.sequence_len, base.device_batch_size) == (8192, 1)
    low_rank = base.transforms["low_rank"].config
    assert (low_rank.rank_k, low_rank.power_iters, low_rank.target_layers) == (32, 1, "ffn_only")
    shown = CliRunner().invoke(estimate, [str(RECIPES / "molegrad.toml"), "--gpu", "rtx5090", "--json"])
    trained = [stage["training"] for stage in json.loads(shown.stdout)["stages"] if stage["training"] is not None]
    assert [training["fitting_batch_size"] >= 1 for training in trained] == [True, True]


def test_classic_rates_follow_the_width_and_not_the_batch() -> None:
    """head .004 and wte .2 of a width of 768, at 1280."""
    groups = recipe("classic").stages["base"].config.optim
    peaks = {name: group.config.lr * group.slot.lr_factor for name, group in groups.items()}
    width = (1280 / 768) ** -0.5
    assert peaks == pytest.approx({"matrices": 0.02, "head": 0.004 * width, "wte": 0.2 * width})


def test_the_classic_pair_learns_every_token_at_full_rates_then_answers_at_a_fiftieth_that_falls_from_the_start() -> (
    None
):
    mid, sft = (recipe("classic").stages[name].config for name in ("mid", "sft"))
    assert (mid.loss_on, sft.loss_on) == ("all", "assistant")
    assert (mid.lr_factor, sft.lr_factor) == (1.0, 0.02)
    assert (mid.init.reference, sft.init.reference) == ("stage:base", "stage:mid")
    assert [schedule.lr_multiplier(mid.schedule, 0, f) for f in (0.0, 0.8, 0.9, 1.0)] == pytest.approx([1, 1, 0.5, 0])
    assert [schedule.lr_multiplier(sft.schedule, 0, f) for f in (0.0, 0.5, 1.0)] == pytest.approx([1, 0.5, 0])
    assert [schedule.momentum(sft.schedule, step, 0.1) for step in (0, 100, 1000)] == pytest.approx([0.95] * 3)
    groups = mid.optim
    assert {name: group.config.lr for name, group in groups.items()} == {"matrices": 0.02, "head": 0.004, "wte": 0.2}


def test_the_current_mixture_goes_on_from_the_pretrainings_rates_and_state_and_holds_out_what_it_is_measured_on() -> (
    None
):
    sft = recipe("speedrun").stages["sft"].config
    assert (sft.warm_start, sft.lr_factor, sft.total_batch_size, sft.steps) == (True, 0.8, 2**19, None)
    # Rates follow the width, and the batch no longer: it is the reference's.
    assert {g.slot.lr_factor for n, g in sft.optim.items() if n in ("matrices", "x0_lambdas")} == {1.0}
    assert sft.optim["matrices"].config.weight_decay == 0.0
    assert {name: share.slot.epochs for name, share in sft.data.items()} == {
        "smoltalk": 1, "mmlu": 3, "gsm8k": 4, "identity": 2, "spelling_bee": 1, "simple_spelling": 1
    }  # fmt: skip
    assert sft.evals["mmlu"].config.task.config.split == "validation"
    assert "sft" not in recipe("miniseries").stages
    assert "smoltalk" not in recipe("cpu").stages["sft"].config.data


def test_the_miniseries_is_turned_by_its_depth_alone() -> None:
    """At depth 12, the reference: 2^19 tokens a step, weight decay .28, rates as they are written."""
    d12, d24 = recipe("miniseries"), recipe("miniseries", "stages.base.model.depth=24")
    base = d12.stages["base"].config
    assert base.total_batch_size == 2**19
    assert base.optim["matrices"].config.weight_decay == pytest.approx(0.28, rel=1e-3)
    assert {group.slot.lr_factor for group in base.optim.values()} == {1.0}
    changed = {path for path, found in d24.values.items() if found.value != d12.values[path].value}
    dialled = {path for path in changed if d24.values[path].origin.kind != "derived"}
    assert dialled == {("stages", "base", "model", "depth")}
    assert value(d24, "stages.base.total_batch_size") == 2**20


SMALL = {
    "hardware": '{device = "cpu", nproc_per_node = 1}',
    "stages.tok.vocab_size": 512,
    "stages.tok.max_chars": 300_000,
    "stages.tok.data.web": BUILT_IN,
    "stages.base.steps": 4,
    "stages.base.total_batch_size": 1024,
    "stages.base.log_every": 1,
    "stages.base.model.depth": 2,
    "stages.base.model.sequence_len": 128,
    "stages.base.data.web": BUILT_IN,
    "stages.base.evals.bpb.every": 2,
    "stages.base.evals.bpb.tokens": 2048,
    "stages.base.evals.samples.every": 2,
    "stages.base.evals.samples.max_tokens": 4,
}
FINETUNED = {
    "stages.sft.steps": 2,
    "stages.sft.total_batch_size": 512,
    "stages.eval.evals.arithmetic.max_examples": 2,
    "stages.eval.evals.arithmetic.max_tokens": 8,
    "stages.eval.evals.spelling_bee.max_examples": 2,
    "stages.eval.evals.spelling_bee.max_tokens": 8,
}


ON_THE_HUB = {"mid": ("smoltalk", "mmlu", "gsm8k"), "sft": ("arc_easy", "arc_challenge", "gsm8k", "smoltalk")}
PAIR = {
    f"stages.{stage}.{key}": setting
    for stage, names in ON_THE_HUB.items()
    for key, setting in [
        ("steps", 2), ("total_batch_size", 1024),
        *((f"data.{name}", '{use = "arithmetic", size = 50}') for name in names),
    ]
}  # fmt: skip
"""The classic pair, its conversations of the hub replaced by such as are made on the spot."""


LOW_RANK = {"stages.base.model.dim": 128, "stages.base.model.n_head": 2, "stages.base.model.n_kv_head": 2}


@pytest.mark.parametrize(
    "name, reduced",
    [
        pytest.param("cpu", SMALL | FINETUNED, id="cpu"),
        pytest.param("classic", SMALL | PAIR, id="classic", marks=pytest.mark.slow),
        pytest.param(
            "molegrad_cpu", SMALL | FINETUNED | LOW_RANK | {"stages.base.model.vocab_size": 512}, id="molegrad_cpu",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_a_recipe_runs_to_its_end_at_a_reduced_size_without_a_network(
    name: str, reduced: dict[str, Any], tmp_path: Path
) -> None:
    bundle = {} if name == "molegrad_cpu" else {"stages.base.evals.core.bundle": write(tmp_path / "bundle", tasks(6))}
    sets = [f"--set={key}={setting}" for key, setting in (reduced | bundle).items()]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NANOCHAT")}
    ran = subprocess.run(
        [Path(sys.executable).parent / "nanochat-run", RECIPES / f"{name}.toml", *sets],
        env=environment | {"NANOCHAT_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (base,) = tmp_path.glob("store/base-*")
    lines = [json.loads(line) for line in (base / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    # An untrained head says nothing: the first loss is that of a uniform guess, ln 512. Then it learns.
    assert losses[0] == pytest.approx(6.238, abs=0.03)
    assert losses[-1] < losses[0]
    assert [line["step"] for line in lines if "bpb.bpb" in line] == [2, 4]
    assert "## Samples\n\n    > The capital of Italy is" in next(tmp_path.glob("runs/*/report.md")).read_text()
