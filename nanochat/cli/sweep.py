"""`nanochat sweep RECIPE --grid KEY=V1,V2`: a recipe in many variants, planned as a table, then run one by one."""

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import click

from nanochat.cli.device_list import visible_devices
from nanochat.cli.sheet import print_table
from nanochat.cli.sweep_run import run_sweep
from nanochat.errors import InputError, NanochatError, wrong_input
from nanochat.estimating.device import Device
from nanochat.estimating.estimate import device_here, estimate
from nanochat.hardware import Machine, probe_machine
from nanochat.quantity import count, counted, duration
from nanochat.recipe.axis import Axis, Change, Range
from nanochat.recipe.load import load_recipe, read_sweep
from nanochat.registry import load_registry
from nanochat.running.plan import Plan, make_plan
from nanochat.running.progress import make_display
from nanochat.running.store import Store
from nanochat.sweeping.axes import EXAMPLE, check_overrides, grid_axes, number_of_trials, over, random_ranges, trials
from nanochat.sweeping.sweep import Sweep, check_sweep, make_sweep

MANY = 100
"""More trials than these are not run without --yes."""
ESTIMATED = 100
"""More are planned, and not estimated one by one: each takes a third of a second."""
SAY_SECONDS = 5.0
"""Between two words on how many of many variants are planned: each takes a tenth of a second."""
Variant = tuple[Sequence[str], Plan]
"""Its `KEY=VALUE`s, and its plan."""


@click.command("sweep")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--grid", multiple=True, metavar="KEY=V1,V2,…", help="Each of these values, with each of other keys'.")
@click.option("--random", "drawn", multiple=True, metavar="KEY=LOW..HIGH", help="A number drawn between these.")
@click.option(
    "--draws", type=click.IntRange(1, 1_000_000), help="How often --random draws; by default as the recipe, or 8."
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of all variants.")
@click.option("--until", metavar="STAGE", help="Stop each variant after this stage; by default as the recipe.")
@click.option("--name", metavar="NAME", help="What the sweep is called; by default as the recipe.")
@click.option(
    "--devices",
    metavar="0,1",
    help="The CUDA devices of this worker, as 0,1 or 0-3 or UUIDs; others may work beside it.",
)
@click.option("--dry-run", is_flag=True, help="Show the table, run nothing.")
@click.option("--yes", is_flag=True, help=f"Run more than {MANY} variants.")
@click.option("-q", "--quiet", is_flag=True, help="Show warnings and errors alone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the plan, then an object a line.")
def command(
    recipe: Path,
    grid: tuple[str, ...],
    drawn: tuple[str, ...],
    draws: int | None,
    overrides: tuple[str, ...],
    until: str | None,
    name: str | None,
    devices: str | None,
    dry_run: bool,
    yes: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run RECIPE in each combination of values. Stages that variants have in common are run once.

    What is varied stands in the recipe's [sweep]; --grid and --random give other values for the same key, or add a key.
    --grid 'variant=A,"B, C"' chooses among its variants.

    The same command goes on where it was cut off, and in a second terminal works beside the first. `nanochat sweeps`
    shows what came out, pauses, reorders, and has failed variants tried again.

    Exit codes: 0 all done · 1 a variant failed · 2 something is wrong with the command or the recipe · 75 stopped.
    """
    if devices is not None:  # before the machine is looked at: how many processes there are follows from them
        os.environ["CUDA_VISIBLE_DEVICES"] = visible_devices(devices)
    typed = grid_axes(grid), random_ranges(drawn)
    table = over(read_sweep(recipe, overrides=overrides), *typed)
    if not (table.axes or table.ranges):
        load_recipe(recipe, overrides=overrides)  # a misspelt [sweep] says so
        message = "nothing varies: the recipe has no [sweep], and --grid or --random is wanted"
        raise wrong_input("E407", message, help=EXAMPLE)
    check_overrides(overrides, table)
    draws, until = draws or table.draws, until or table.until
    _check_number(table.axes, table.ranges, draws, yes=yes or dry_run)
    machine = probe_machine()
    variants = _plans(recipe, trials(table.axes, table.ranges, draws, seed=0), overrides, until, machine)
    called = name or variants[0][1].recipe.name
    about = {"recipe": str(recipe.resolve()), "until": until, "overrides": list(overrides)}
    check_sweep(called, about)
    if as_json:
        click.echo(json.dumps(_described(called, _rows(variants, machine, until), until), ensure_ascii=False))
    elif dry_run or not quiet:
        _print_plan(_rows(variants, machine, until))
    if dry_run:
        return
    sweep = make_sweep(called, **about)
    _queue(sweep, variants)
    sys.exit(run_sweep(sweep, make_display(quiet=quiet, as_json=as_json)))


def _queue(sweep: Sweep, variants: Sequence[Variant]) -> None:
    """Add what is not there yet; says which trials are there as the recipe was before."""
    sweep.add(variants)
    for trial in sweep.outdated(variants):
        there = f"trial {trial.number} is there as the recipe was"
        click.echo(f"{there}: nanochat sweeps drop {sweep.path.name} {trial.number}", err=True)


def _check_number(axes: Sequence[Axis], ranges: Sequence[Range], draws: int, *, yes: bool) -> None:
    number = number_of_trials(axes, ranges, draws)
    if number > MANY and not yes:
        parts = " × ".join(
            [*(f"{len(axis.changes)} of {axis.key}" for axis in axes), *([f"{draws} draws"] * bool(ranges))]
        )
        raise wrong_input("E407", f"{number:,} variants ({parts})", help="give --yes where so many are meant")


def _plans(
    recipe: Path, changes: Sequence[Sequence[Change]], overrides: Sequence[str], until: str | None, machine: Machine
) -> list[Variant]:
    """The plan of each variant. InputError with what the first one that is wrong says, and which one it is."""
    registry, store, found, said = load_registry(), Store(), list[Variant](), time.monotonic()
    for its in changes:
        if time.monotonic() - said > SAY_SECONDS:
            click.echo(f"planned {len(found):,} of {len(changes):,} variants", err=True)
            said = time.monotonic()
        settings = [change.text for change in its]
        try:
            loaded = load_recipe(recipe, overrides=overrides, changes=its, registry=registry, machine=machine)
        except InputError as fault:
            click.echo(f"in the variant {' '.join(settings)}:", err=True)
            raise fault
        if until is not None and until not in loaded.stages:
            known = f"its stages are {', '.join(loaded.stages)}"
            raise wrong_input("E407", f"--until {until}: the recipe has no stage `{until}`", help=known)
        found.append((settings, make_plan(loaded, machine, store, registry)))
    return found


@attrs.frozen(kw_only=True)
class _Row:
    """A variant in the plan."""

    settings: Sequence[str]
    run: str
    to_do: Sequence[str]
    """Stages that no variant before it has; of them, those that nobody can run here."""
    blocked: Sequence[str]
    parameters: int | None
    seconds: float | None
    """None: it was not estimated."""


def _rows(variants: Sequence[Variant], machine: Machine, until: str | None) -> list[_Row]:
    """One row a variant: values, what is left to do, parameters, time. Shared stages count where they come first."""
    planned, here = set[str](), device_here(variants[0][1].recipe, machine)
    rows = []
    for settings, plan in variants:
        names = [stage.name for stage in plan.stages]
        wanted = plan.stages[: names.index(until) + 1] if until else plan.stages
        new = [stage for stage in wanted if stage.action != "reuse" and stage.key not in planned]
        planned |= {stage.key for stage in wanted}
        parameters, seconds = None, None
        if len(variants) <= ESTIMATED:
            parameters, seconds = _estimated(plan, {stage.name for stage in new}, machine, here)
        rows.append(
            _Row(
                settings=settings,
                run=plan.run_folder.name,
                to_do=[stage.name for stage in new],
                blocked=[stage.name for stage in new if stage.action == "blocked"],
                parameters=parameters,
                seconds=seconds,
            )
        )
    return rows


def _described(name: str, rows: Sequence[_Row], until: str | None) -> dict[str, Any]:
    """The plan for programs."""
    return {"sweep": name, "until": until, "variants": [attrs.asdict(row) for row in rows]}


def _print_plan(rows: Sequence[_Row]) -> None:
    keys = [setting.partition("=")[0] for setting in rows[0].settings]
    estimated = rows[0].seconds is not None
    cells = [
        [
            *(setting.partition("=")[2] for setting in row.settings),
            ", ".join(f"{name}{' (blocked)' * (name in row.blocked)}" for name in row.to_do) or "nothing",
            *([count(row.parameters) if row.parameters else "", duration(row.seconds or 0.0)] if estimated else []),
        ]
        for row in rows
    ]
    columns = [*keys, "to do", *(["parameters", "time, about"] if estimated else [])]
    print_table(columns, cells, words=len(keys) + 1, heads=len(keys))
    total = sum(row.seconds or 0.0 for row in rows)
    click.echo(counted(len(rows), "variant") + (f", about {duration(total)} on this machine" if total else ""))


def _estimated(plan: Plan, new: set[str], machine: Machine, here: Device) -> tuple[int | None, float]:
    """Parameters, and the seconds of the stages that are new; what cannot be estimated counts as nothing."""
    try:
        found = estimate(plan.recipe, machine, here=here)
    except NanochatError:
        return None, 0.0
    trained = [stage.parameters for stage in found.stages if stage.parameters]
    seconds = sum(took or 0.0 for name, took in found.durations[0].stages.items() if name in new)
    return max(trained, default=None), seconds
