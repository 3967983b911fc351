"""`nanochat estimate RECIPE`: parameters, FLOPs, memory, text, disk, time and money, before any is spent."""

import json
import math
from pathlib import Path

import attrs
import click

from nanochat.cli.estimate_text import print_depths, print_estimate
from nanochat.cli.recipe_argument import named_run, recipe_file
from nanochat.errors import wrong_input
from nanochat.estimating.device import Device, named_device
from nanochat.estimating.estimate import MFU, Estimate, device_here, estimate, pretraining_stage
from nanochat.hardware import Machine, probe_machine
from nanochat.recipe.load import load_recipe
from nanochat.recipe.resolved import Recipe


def _a_number(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Refuse nan, which compares with no bound of a range."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is no number", context, parameter)
    return value


@click.command("estimate")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of the recipe.")
@click.option("--stage", metavar="NAME", help="Only this stage.")
@click.option("--depth", "depths", metavar="4,8,12", help="One table over depths of the pretrained model.")
@click.option("--gpu", metavar="NAME", help="Also on this GPU, one a process: h100, a100-80, rtx4090, …")
@click.option(
    "--mfu",
    type=click.FloatRange(0.001, 1),
    callback=_a_number,
    default=MFU,
    help="Share of the peak that is used.",
)
@click.option(
    "--price",
    type=click.FloatRange(0, 1e6),
    callback=_a_number,
    metavar="DOLLARS",
    help="Of one such GPU (else of this machine) and hour.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    recipe: Path,
    overrides: tuple[str, ...],
    stage: str | None,
    depths: str | None,
    gpu: str | None,
    mfu: float,
    price: float | None,
    as_json: bool,
) -> None:
    """Estimate what a run of RECIPE takes: parameters, FLOPs, memory, text, disk, time and cost. Nothing is run."""
    device = named_device(gpu) if gpu else None
    machine = _machine(device)
    record = named_run(recipe) is not None

    def load(*more: str) -> Recipe:
        return load_recipe(recipe_file(recipe), overrides=[*overrides, *more], machine=machine, record=record)

    first = load()
    here = device_here(first, probe_machine())

    def estimated(loaded: Recipe) -> Estimate:
        return estimate(loaded, machine, gpu=device, here=here, mfu=mfu, price=price, only=stage)

    if depths is None:
        found = estimated(first)
        if as_json:
            click.echo(json.dumps(found.description(), indent=2))
        else:
            print_estimate(found)
        return
    trained = _pretraining(first, stage)
    table = {depth: estimated(load(f"stages.{trained}.model.depth={depth}")) for depth in _depths(depths)}
    if as_json:
        click.echo(json.dumps({str(depth): found.description() for depth, found in table.items()}, indent=2))
    else:
        print_depths(table, trained)


def _machine(gpu: Device | None) -> Machine:
    """This machine; with a GPU in it where one is named, for whatever the recipe leaves to "auto"."""
    machine = probe_machine()
    return machine if gpu is None or machine.cuda_devices else attrs.evolve(machine, cuda_devices=1)


def _depths(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        raise wrong_input(
            "E407", f"--depth {text!r} is no list of numbers", help="write it so: --depth 4,8,12"
        ) from None
    return list(dict.fromkeys(found))


def _pretraining(recipe: Recipe, only: str | None) -> str:
    """The stage whose depth is varied: it must be among those that are estimated."""
    trained = pretraining_stage(recipe)
    if trained is None:
        raise wrong_input("E407", "--depth needs a stage that pretrains, and the recipe has none")
    if only not in (None, trained):
        raise wrong_input("E407", f"--depth is of the stage `{trained}`, not of `{only}`", help="leave --stage out")
    return trained
