"""`nanochat bench train`: what this machine does with a recipe's model, beside what it could do. And its group."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs
import click
import psutil

from nanochat.cli import bench_all, bench_resume
from nanochat.cli.bench_inference import infer, serve
from nanochat.cli.growth_plot import print_growth
from nanochat.cli.number_list import numbers
from nanochat.cli.recipe_argument import recipe_file
from nanochat.cli.sheet import print_pairs, print_table
from nanochat.errors import wrong_input
from nanochat.estimating.estimate import pretraining_stage
from nanochat.estimating.stage_estimate import estimate_stage, process_bytes
from nanochat.hardware import bfloat16_instructions, probe_machine
from nanochat.quantity import count, size
from nanochat.recipe.load import load_recipe
from nanochat.recipe.model_of import model_of
from nanochat.recipe.resolved import Recipe
from nanochat.registry import load_registry
from nanochat.running.plan import lacking

if TYPE_CHECKING:
    from nanochat.benchmarking.training_speed import TrainingSpeed


@click.group("bench")
def command() -> None:
    """Measure what this machine does with a recipe's model; show that nothing is lost when it is killed."""


for measured in (bench_resume.command, infer, serve, bench_all.command, bench_all.diff):
    command.add_command(measured)


@command.command("train")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of the recipe.")
@click.option("--stage", metavar="NAME", help="A stage that trains; without it, the first that pretrains.")
@click.option("--seconds", type=click.FloatRange(0.1, 3600), default=20.0, show_default=True, help="Of training.")
@click.option("--depths", callback=numbers, metavar="2,4,8", help="Instead: how the time grows with depth.")
@click.option("--lengths", callback=numbers, metavar="128,512", help="Instead: how it grows with sequence_len.")
@click.option("--operators", "profiled", is_flag=True, help="Also tell of each operator, against what limits it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def train(
    recipe: Path,
    overrides: tuple[str, ...],
    stage: str | None,
    seconds: float,
    depths: list[int],
    lengths: list[int],
    profiled: bool,
    as_json: bool,
) -> None:
    """Train the model of RECIPE for a while, on random rows: tokens/s, FLOP/s against the matmul peak that is measured
    in the same run, the share of each part, memory against the estimate.
    """
    path = recipe_file(recipe)
    loaded = load_recipe(path, overrides=overrides, machine=probe_machine())
    name = stage or pretraining_stage(loaded)
    if name is None or name not in loaded.stages or not hasattr(loaded.stages[name].config, "optim"):
        trains = [its.name for its in loaded.stages.values() if hasattr(its.config, "optim")]
        found = f"has no stage `{stage}` that trains" if stage else "has no stage that pretrains"
        raise wrong_input("E405", f"{loaded.name} {found}", help=f"stages that train: {', '.join(trains) or 'none'}")
    if not depths and not lengths:
        before, planned, speed = _measure(loaded, name, seconds, profiled=profiled)
        if as_json:
            more = {"before_seconds": before, "estimated_memory_bytes": planned}
            click.echo(json.dumps(speed.description() | more, indent=2))
        else:
            _print(loaded.name, name, speed, planned, before)
        return
    series: dict[str, list[tuple[int, TrainingSpeed]]] = {}
    for key, values in (("depth", depths), ("sequence_len", lengths)):
        for value in values:
            changed = [*overrides, f"stages.{name}.model.{key}={value}"]
            *_, speed = _measure(load_recipe(path, overrides=changed, machine=probe_machine()), name, seconds)
            series.setdefault(key, []).append((value, speed))
    if as_json:
        plain = {key: {value: speed.description() for value, speed in rows} for key, rows in series.items()}
        click.echo(json.dumps(plain, indent=2))
        return
    for key, measured in series.items():
        print_growth(key, measured)


def _measure(
    recipe: Recipe, name: str, seconds: float, *, profiled: bool = False
) -> "tuple[float, int | None, TrainingSpeed]":
    """The seconds before it, since the process began; the bytes that `estimate` tells; what was measured.

    InputError E404 where the hardware is not here.
    """
    stage, registry = recipe.stages[name], load_registry(block=recipe.block)
    hardware = stage.hardware
    alone = attrs.evolve(stage, hardware=attrs.evolve(cast(Any, hardware), nodes=1, nproc_per_node=1))
    if lacks := lacking(alone, probe_machine()):
        raise wrong_input("E404", f"stage `{name}` {lacks}")
    model = model_of(stage, recipe, registry)
    if model is None:
        raise wrong_input("E405", f"the checkpoint that stage `{name}` starts from does not say its model")
    training = estimate_stage(stage, recipe, registry, 0).training
    planned = training.memory.peak + process_bytes(hardware.device) if training and training.memory else None

    from nanochat.benchmarking.training_speed import training_speed  # imports torch
    from nanochat.runtime import distributed_runtime

    with distributed_runtime(device=hardware.device, dtype=hardware.dtype, seed=recipe.seed) as runtime:
        runtime.seed_everything()
        processes = hardware.nodes * hardware.nproc_per_node
        before = time.time() - psutil.Process().create_time()
        found = training_speed(
            stage.config, model, runtime, registry, processes=processes, seconds=seconds, profiled=profiled
        )
    return before, planned, found


def _print(recipe: str, stage: str, speed: "TrainingSpeed", planned: int | None, before: float) -> None:
    threads = f", {speed.threads} threads" if speed.device == "cpu" else ""
    compiled = ", compiled" if speed.compiled else ""
    click.secho(f"{recipe}, stage `{stage}`: {count(speed.parameters)} parameters", bold=True)
    after = before + speed.built_seconds + speed.first_step_seconds
    milliseconds = f"{1000 * speed.step_seconds:,.0f} ms"
    memory = size(speed.peak_memory_bytes) + (f"; `estimate` says {size(planned)}" if planned else "")
    print_pairs(
        [
            ("where", f"one process on {speed.device}{threads}, {speed.dtype}{compiled}"),
            (
                "first step",
                f"done {after:.1f} s after the start: {before:.1f} s Python and torch, {speed.built_seconds:.1f} s "
                f"building, {speed.first_step_seconds:.1f} s the step",
            ),
            (
                "speed",
                f"{speed.tokens_per_second:,.0f} tokens/s; a step of {speed.tokens:,} tokens, {speed.rows} rows at "
                f"once, takes {milliseconds} (median of {speed.steps}; fastest "
                f"{1000 * speed.fastest_step_seconds:,.0f} ms)",
            ),
            (
                "FLOP/s",
                f"{count(speed.flops)}, {speed.of_peak:.1%} of the {count(speed.peak_flops)} that matrix products "
                f"reach in {speed.dtype}",
            ),
            ("memory", memory),
            *([("bfloat16", _bfloat16(speed.dtype))] if speed.device == "cpu" else []),
        ],
        indent="  ",
    )
    click.echo()
    rows = [[part, f"{share:.1%}", f"{1000 * share * speed.step_seconds:,.1f}"] for part, share in speed.parts.items()]
    print_table(["part", "share", "ms a step"], rows, words=1, indent="  ")
    click.echo(
        "  data is made beforehand here; what a recipe's loader costs stands in a run's report, as waiting for data"
    )
    if speed.operators:
        click.echo()
        _print_operators(speed)


def _bfloat16(dtype: str) -> str:
    """What a processor has for bfloat16. Its dtype does not follow: results would differ from machine to machine."""
    names = bfloat16_instructions()
    if not names:
        return "no matrix instructions for it are known of this processor"
    use = "in use" if dtype == "bfloat16" else "--set hardware.dtype=bfloat16 uses them"
    return f"this processor has matrix instructions for it ({', '.join(names)}): {use}"


def _print_operators(speed: "TrainingSpeed") -> None:
    """A row for each operator that takes a hundredth of the time, and what would be if each reached its limit."""
    total = sum(row.seconds for row in speed.operators)
    least = {row.name: row.least_seconds(speed.peak_flops, speed.bandwidth) for row in speed.operators}
    rows = [
        [
            row.name.removeprefix("aten::"),
            f"{row.seconds / total:.1%}",
            f"{1000 * row.seconds:,.1f}",
            f"{row.calls:,.0f}",
            ("FLOP/s" if row.flops else "memory") if least[row.name] else "",
            f"{least[row.name] / row.seconds:.0%}" if least[row.name] else "",
        ]
        for row in speed.operators
        if row.seconds >= 0.01 * total
    ]
    print_table(["operator", "share", "ms a step", "calls", "limit", "reached"], rows, words=1, indent="  ")
    at_limits = sum(min(row.seconds, least[row.name]) for row in speed.operators)
    of_peak = speed.tokens * speed.flops_per_token / at_limits / speed.peak_flops
    click.echo(
        f"  the limits: {count(speed.peak_flops)}FLOP/s in matrix products, {size(round(speed.bandwidth))}/s of memory"
        f"\n  if every operator reached its limit, a step would reach {of_peak:.1%} of the matrix products' peak"
    )
