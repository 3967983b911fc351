"""What `nanochat estimate` says, against published runs of the field and figures worked out by hand."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest
from click.testing import CliRunner

from nanochat.accelerators import recognised
from nanochat.cli.estimate import command
from nanochat.cli.estimate_text import print_estimate
from nanochat.config import Component, config, option
from nanochat.errors import InputError
from nanochat.estimating.data_need import characters_per_token
from nanochat.estimating.device import Device, middle, named_device
from nanochat.estimating.estimate import Estimate, estimate
from nanochat.estimating.footprint import optimizer_groups
from nanochat.hardware import Machine
from nanochat.model.sizes import Moment
from nanochat.quantity import count, money, size
from nanochat.recipe.load import load_recipe
from nanochat.recipe.resolved import Recipe
from nanochat.stages.slots import GroupSlot

RECIPES = Path(__file__).parents[1] / "recipes"
MACHINE = Machine(cuda_devices=0, mps=False, cpu_cores=2, memory_bytes=8 * 2**30, name="test")
CPU = Device(name="cpu", kind="cpu", memory_bytes=MACHINE.memory_bytes, flops={"float32": 1e11}, source="a test")


def estimated(recipe: str | Recipe, *overrides: str, gpu: str | None = None, **options: float) -> Estimate:
    if isinstance(recipe, str):
        recipe = load_recipe(RECIPES / recipe, overrides=overrides, machine=MACHINE)
    device = named_device(gpu) if gpu else None
    return estimate(recipe, MACHINE, gpu=device, here=CPU, **options)  # type: ignore[arg-type]


def stage(found: Estimate, name: str):  # type: ignore[no-untyped-def]
    return next(stage for stage in found.stages if stage.name == name)


def test_the_speedrun_takes_the_steps_shards_and_hours_that_it_is_known_to_take() -> None:
    found = estimated("speedrun.toml", gpu="h100", mfu=0.59, price=3.0)
    trained = stage(found, "base").training
    on_h100 = found.durations[1]

    assert trained.steps == 5568
    assert trained.data[0].shards_needed == pytest.approx(170, rel=0.03)  # what its authors found to suffice
    assert on_h100.devices == 8
    assert on_h100.stages["base"] == pytest.approx(1.65 * 3600, rel=0.1)  # 8 × H100 at 59% of their peak
    assert on_h100.cost == pytest.approx(8 * 3.0 * on_h100.seconds / 3600)


def test_the_disk_holds_the_checkpoints_that_are_kept_and_one_more_while_it_is_written() -> None:
    two, three = (
        stage(estimated("quickstart.toml", f"stages.base.checkpoints_kept={kept}"), "base").disk_bytes
        for kept in (2, 3)
    )
    assert (two % 3, three % 4, two // 3) == (0, 0, three // 4)


def test_quickstart_on_two_idle_cores_of_190_gigaflops_takes_the_eight_minutes_that_the_readme_reports() -> None:
    recipe = load_recipe(RECIPES / "quickstart.toml", machine=MACHINE)
    idle = attrs.evolve(CPU, flops={"float32": 1.9e11})

    found = estimate(recipe, MACHINE, here=idle)

    assert found.durations[0].seconds == pytest.approx(7 * 60 + 48, rel=0.15)
    assert found.flops == pytest.approx(2.16e6 * 6 * (614_400 + 1_638_400), rel=0.15)  # 12·4·192² + 2048·192 matmuls


def test_characters_read_follow_from_tokens_vocabulary_weights_and_what_packing_leaves_out() -> None:
    found = estimated(
        "quickstart.toml",
        "stages.base.packing=best_fit",
        "stages.base.data.stories.weight=3.0",
        "stages.base.steps=1000",
    )
    docs, stories = stage(found, "base").training.data

    assert characters_per_token(2048) == pytest.approx(3.3)
    assert characters_per_token(2**15) == pytest.approx(4.8)
    assert docs.needed == pytest.approx(1000 * 4096 * 3.3 / 0.65 / 4)
    assert stories.needed == pytest.approx(3 * docs.needed)
    assert stories.passes == pytest.approx(stories.needed / (280 * 12_000 * 0.97))


def test_the_batch_that_fits_is_the_largest_power_of_two_below_nine_tenths_of_the_memory() -> None:
    replicated = "hardware.shard=none"
    roomy = stage(estimated("speedrun.toml", replicated, gpu="h200"), "base").training
    tight = stage(estimated("speedrun.toml", replicated, gpu="a100-40"), "base").training
    hopeless = stage(estimated("speedrun.toml", replicated, gpu="a10"), "base").training

    assert (roomy.fitting_batch_size, tight.fitting_batch_size) == (32, 4)
    assert hopeless.fitting_batch_size == 0


def test_processes_share_the_memory_of_what_they_share_out() -> None:
    held = {}
    for shard in ("none", "optimizer", "full"):
        found = estimated("speedrun.toml", f"hardware.shard={shard}")
        held[shard] = stage(found, "base").training.memory
    none, optimizer, full = held["none"], held["optimizer"], held["full"]
    assert optimizer.optimizer == full.optimizer == -(-none.optimizer // 8)
    assert full.gradients == -(-none.gradients // 8) < optimizer.gradients == none.gradients
    assert none.peak > optimizer.peak > full.peak
    weights, state = none.gradients, full.optimizer  # each float32, one of each parameter
    assert (optimizer.snapshot, full.snapshot) == (weights + state, -(-weights // 8) + state)


def test_a_finetuned_model_is_the_one_that_its_init_leads_to() -> None:
    found = estimated("quickstart.toml", "stages.base.model.depth=6")

    assert stage(found, "sft").parameters == stage(found, "base").parameters
    assert stage(found, "eval").parameters == stage(found, "base").parameters


def test_a_checkpoint_in_a_folder_says_its_model_without_being_opened(tmp_path: Path) -> None:
    model = load_recipe(RECIPES / "quickstart.toml").stages["base"].config.model
    described = {"use": "gpt", "config": attrs.asdict(model.config)}
    (tmp_path / "meta.json").write_text(json.dumps({"model": described}))
    found = estimated("quickstart.toml", f'stages.sft.init="path:{tmp_path}"')

    assert stage(found, "sft").parameters == 3_342_442  # the README's


def test_a_tokenizers_text_is_max_chars_where_a_source_does_not_say_how_much_it_has() -> None:
    recipe = load_recipe(RECIPES / "quickstart.toml", machine=MACHINE)
    tok = recipe.stages["tok"]
    silent = {name: attrs.evolve(source, config=object()) for name, source in tok.config.data.items()}
    config = attrs.evolve(tok.config, data=silent, max_chars=123_000_000)

    found = estimated(attrs.evolve(recipe, stages={"tok": attrs.evolve(tok, config=config)}))

    assert stage(found, "tok").characters == 123_000_000


def test_a_stage_whose_length_only_its_data_decides_has_memory_but_no_time() -> None:
    recipe = load_recipe(RECIPES / "quickstart.toml")
    endless = attrs.evolve(recipe.stages["sft"].config, steps=None)
    stages = {**recipe.stages, "sft": attrs.evolve(recipe.stages["sft"], config=endless)}

    found = estimated(attrs.evolve(recipe, stages=stages))

    assert stage(found, "sft").training.memory.peak > 0
    assert found.durations[0].stages["sft"] is None
    assert not found.durations[0].complete
    assert any(sentence.startswith("sft: it is one pass over its data") for sentence in found.assumptions)


def test_a_third_partys_stage_is_said_not_to_be_estimated() -> None:
    recipe = load_recipe(RECIPES / "quickstart.toml")
    foreign = attrs.evolve(recipe.stages["eval"], config=object(), use="distil")

    found = estimated(attrs.evolve(recipe, stages={**recipe.stages, "eval": foreign}))

    assert "eval: the stage `distil` is not estimated" in found.assumptions
    assert found.durations[0].stages["eval"] is None


@config
class SilentConfig:
    """An optimizer that does not say what it needs."""


def test_an_optimizer_that_does_not_say_its_state_is_taken_for_adam() -> None:
    silent = Component(
        kind="optimizer",
        name="all",
        use="silent",
        revision=1,
        config=SilentConfig(),
        slot=GroupSlot(match="*", lr_factor=1.0),
    )

    (group,) = optimizer_groups({"all": silent}, {"w": (10, 20)}, "float32")

    assert (group.parameters, group.state, group.assumed) == (200, 8 * 200, True)


@config
class MuteModelConfig:
    """A third party's model that says its parameters, and nothing else."""

    def layout(self) -> dict[str, tuple[int, ...]]:
        return {"wte.weight": (512, 16), "blocks.0.weight": (16, 16), "head.weight": (512, 16)}


@config
class MeasuredModelConfig(MuteModelConfig):
    sequence_len: int = option(256)

    def moments(self, rows: int, *, element_bytes: int, device: str) -> list[Moment]:
        return [Moment(name="loss", activations=1000 * rows, gradients=0)]


@config
class BrokenConfig(MuteModelConfig):
    """It fails whatever it is asked."""

    def characters(self, *shapes: object) -> int:
        raise ZeroDivisionError("no documents")

    forward_tokens = disk_bytes = state_bytes = flops_per_token = characters


def quickstart_with(kind: str, own: object) -> Recipe:
    """With one component of the pretraining stage replaced."""
    recipe = load_recipe(RECIPES / "quickstart.toml", machine=MACHINE)
    base = recipe.stages["base"]
    component = Component(
        kind=kind, name="own", use="own", revision=1, config=own, slot=SimpleNamespace(match="*", weight=1.0, every=9)
    )
    field = {"model": "model", "source": "data", "optimizer": "optim", "eval": "evals"}[kind]
    config = attrs.evolve(base.config, **{field: component if kind == "model" else {"own": component}})
    return attrs.evolve(recipe, stages={"base": attrs.evolve(base, config=config)})


def test_a_model_that_says_its_parameters_alone_is_six_flops_a_parameter_and_no_memory() -> None:
    trained = stage(estimated(quickstart_with("model", MuteModelConfig())), "base").training

    assert trained.flops_per_token == 6 * (2 * 512 * 16 + 16 * 16)
    assert (trained.memory, trained.fitting_batch_size, trained.micro_steps) == (None, None, None)


def test_a_model_without_buffers_needs_to_say_nothing_of_them() -> None:
    trained = stage(estimated(quickstart_with("model", MeasuredModelConfig())), "base").training

    assert trained.memory.weights == 4 * (2 * 512 * 16 + 16 * 16)
    assert trained.fitting_batch_size == 16  # 4096 tokens a step are 16 rows


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("model", "flops_per_token"),
        ("source", "characters"),
        ("optimizer", "state_bytes"),
        ("eval", "forward_tokens"),
    ],
)
def test_a_component_that_fails_when_it_is_asked_is_named(kind: str, method: str) -> None:
    told = rf"E202.*{method}\(\) of the {kind} `own` failed: ZeroDivisionError: no documents"
    with pytest.raises(InputError, match=told):
        estimated(quickstart_with(kind, BrokenConfig()))


def test_an_unknown_gpu_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"did you mean `h100`.*\n.*known: b200, h200, h100, .*rtx3090"):
        named_device("h1000")


@pytest.mark.parametrize(
    ("driver", "mebibytes", "known"),
    [
        ("NVIDIA A100-SXM4-40GB", 40_960, "a100-40"),
        ("NVIDIA A100 80GB PCIe", 81_920, "a100-80"),
        ("NVIDIA H100 80GB HBM3", 81_559, "h100"),
        ("NVIDIA H100 PCIe", 81_559, "h100-pcie"),
        ("NVIDIA GH200 480GB", 97_871, "gh200"),
        ("NVIDIA L40S", 46_068, "l40s"),
        ("NVIDIA RTX 6000 Ada Generation", 49_140, "rtx6000-ada"),
        ("NVIDIA GeForce RTX 4090", 24_564, "rtx4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16_376, None),
        ("NVIDIA RTX A1000", 8_188, None),
        ("NVIDIA L40", 46_068, None),
        ("NVIDIA A10G", 23_028, None),
    ],
)
def test_a_gpu_is_known_by_the_whole_words_of_its_name(driver: str, mebibytes: int, known: str | None) -> None:
    assert recognised(driver, mebibytes) == known


@pytest.mark.parametrize(
    "gpu, warned",
    [
        ("h100", "base: 64 rows at once do not fit h100; --set stages.base.device_batch_size=16 computes the same"),
        ("rtx4090", "base: 64 rows at once do not fit rtx4090; not even one row does"),
    ],
)
def test_a_batch_that_a_device_cannot_hold_is_a_warning_beside_its_price(gpu: str, warned: str) -> None:
    arguments = [str(RECIPES / "speedrun.toml"), "--gpu", gpu, "--set", "stages.base.device_batch_size=64"]
    arguments += ["--set", "hardware.shard=none"]
    printed = CliRunner().invoke(command, arguments).stdout
    (said, *_) = [line for line in printed.splitlines() if "warning" in line]
    assert said.strip().startswith(f"warning: {warned}")


@pytest.mark.parametrize("gpu", [None, "h100"])
def test_a_price_is_never_assumed_and_where_it_comes_from_is_said(gpu: str | None) -> None:
    arguments = [str(RECIPES / "quickstart.toml"), *(["--gpu", gpu] if gpu else [])]
    without = CliRunner().invoke(command, arguments).stdout
    assert "$" not in without
    assert "the cost is not known; --price DOLLARS says what a device costs for an hour" in " ".join(without.split())
    priced = CliRunner().invoke(command, [*arguments, "--price", "2.5"]).stdout
    assert "the cost is that of $2.50 a device and hour, as --price says, on " in " ".join(priced.split())
    assert ("as --price says, on h100" in " ".join(priced.split())) == (gpu is not None)
    (*_, last) = json.loads(CliRunner().invoke(command, [*arguments, "--json"]).stdout)["durations"]
    assert last["cost"] is None


def test_the_command_prints_a_table_over_depths_whose_cost_grows() -> None:
    arguments = [str(RECIPES / "speedrun.toml"), "--depth", "4,8,12", "--gpu", "b200", "--price", "4"]
    plain = CliRunner().invoke(command, arguments)
    as_json = json.loads(CliRunner().invoke(command, [*arguments, "--json"]).stdout)

    lines = [line.split() for line in plain.stdout.splitlines() if line.strip().startswith("d")]
    assert [line[0] for line in lines] == ["depth", "d4", "d8", "d12"]
    costs = [found["durations"][1]["cost"] for found in as_json.values()]
    assert costs == sorted(costs)
    assert list(as_json) == ["4", "8", "12"]
    assert "not in the time: the evaluation `core`, torch.compile of base" in plain.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--depth", "4", "--stage", "tok"], "--depth is of the stage `base`, not of `tok`"),
        (["--depth", "x"], "'x' is no list of numbers"),
        (["--depth", "0"], "depth is 0, but it is at least 1"),
        (["--mfu", "nan"], "nan is no number"),
        (["--price", "nan"], "nan is no number"),
        (["--price", "inf"], "not in the range"),
    ],
)
def test_what_cannot_be_estimated_is_refused_in_words(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(command, [str(RECIPES / "quickstart.toml"), *arguments])

    assert result.exit_code != 0
    assert said in result.output + str(result.exception)


@pytest.mark.parametrize(
    "rates, expected",
    [
        ([190, 192, 191, 189, 190], (190, None)),
        ([40, 190, 191, 192, 193, 192, 191], (191, None)),  # one hiccup is no spread
        ([50, 100, 100, 100, 150, 150, 60], (100, (0.6, 1.5))),  # quartiles of 7: the 2nd, the 4th, the 6th
    ],
)
def test_a_cpu_is_as_fast_as_the_median_of_its_probes_whose_quartiles_are_told_where_they_differ(
    rates: list[float], expected: tuple[float, tuple[float, float] | None]
) -> None:
    assert middle(rates) == expected


def test_a_time_by_a_speed_that_varies_is_told_with_its_bounds() -> None:
    recipe = load_recipe(RECIPES / "quickstart.toml", machine=MACHINE)
    (took,) = estimate(recipe, MACHINE, here=attrs.evolve(CPU, spread=(0.5, 2.0))).durations
    computed = sum(its.flops for its in estimated(recipe).stages) / (1e11 * 0.4)

    assert took.between == pytest.approx((took.seconds - computed / 2, took.seconds + computed))
    assert estimated(recipe).durations[0].between is None


def printed(capsys: pytest.CaptureFixture[str], recipe: str, *overrides: str) -> list[str]:
    print_estimate(estimated(recipe, *overrides))
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


def test_what_is_in_no_figure_and_what_is_hidden_in_one_is_said_under_the_tables(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = stage(estimated("quickstart.toml", "stages.base.evals.bpb.tokens=65536"), "base")
    lines = printed(capsys, "quickstart.toml", "stages.base.evals.bpb.tokens=65536", "stages.sft.compile=true")

    measured = 65536 * found.training.flops_per_token / 3  # forward alone, once at the end
    assert found.evaluation_flops == pytest.approx(measured)
    assert f"FLOPs count evaluations too: {count(measured)} of base's" in lines
    assert "sft has the groups of base" in lines
    (left_out,) = [line for line in lines if line.startswith("not in the time: ")]
    assert "torch.compile of sft" in left_out
    assert "`arithmetic`" in left_out


def test_one_stage_alone() -> None:
    printed = CliRunner().invoke(command, [str(RECIPES / "quickstart.toml"), "--stage", "base"]).stdout

    assert "3.34 M parameters" in printed
    assert "sft" not in printed


def test_estimating_imports_no_torch() -> None:
    script = (
        "import sys; from click.testing import CliRunner; from nanochat.cli.estimate import command\n"
        f"print(CliRunner().invoke(command, [{str(RECIPES / 'speedrun.toml')!r}]).exit_code, 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert said.split() == ["0", "False"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (count(561e6), "561 M"),
        (count(1.024e9), "1.02 G"),
        (count(999_999), "1 M"),
        (count(7), "7"),
        (size(1_234_567), "1.23 MB"),
        (size(512), "512 B"),
        (money(74.4), "$74"),
        (money(0.5), "$0.50"),
    ],
)
def test_quantities_are_three_digits_and_a_unit(said: str, expected: str) -> None:
    assert said == expected
