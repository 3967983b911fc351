"""`nanochat eval CHECKPOINT --eval NAME …`: measure a model by any evaluations, outside its recipe.

It is a run like any other, of a recipe with one stage that is written here: the same checks, the same store, so that a
second time costs nothing, and `nanochat diff` compares two of them example by example.
"""

import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from nanochat.cli.checkpoint_engine import checkpoint_argument, device_option, model_name
from nanochat.cli.sheet import print_table, print_text
from nanochat.errors import wrong_input
from nanochat.hardware import probe_machine
from nanochat.recipe.evaluations import needs_sources
from nanochat.recipe.load import load_recipe
from nanochat.recipe.notation import LONGEST_NAME, value_text
from nanochat.registry import load_registry
from nanochat.reporting.file_reports import FileReports
from nanochat.running.figures import FinishedStage, figure_rows, finished_stages
from nanochat.running.find import find_checkpoint
from nanochat.running.json_file import read_json
from nanochat.running.plan import make_plan
from nanochat.running.progress import make_display
from nanochat.running.request import Request
from nanochat.running.run_folder import RunFolder
from nanochat.running.runner import run_recipe
from nanochat.running.store import CONFIG, Store

STAGE = "eval"


@click.command("eval")
@checkpoint_argument
@click.option("--eval", "evals", multiple=True, required=True, metavar="NAME", help="Which evaluation; several: again.")
@click.option("--data", multiple=True, metavar="SOURCE", help="A source of documents, for evaluations that read one.")
@click.option("--set", "settings", multiple=True, metavar="NAME.KEY=VALUE", help="A setting of one of these.")
@click.option("--fresh", is_flag=True, help="Measure again, though it is done.")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON; progress goes to stderr.")
def command(
    checkpoint: str | None,
    evals: tuple[str, ...],
    data: tuple[str, ...],
    settings: tuple[str, ...],
    fresh: bool,
    device: str,
    as_json: bool,
) -> None:
    """Measure CHECKPOINT, and print each figure with its number of examples and its standard error.

    \b
    nanochat eval d20/base --eval core --set core.max_per_task=500
    nanochat eval --eval task --set task.task.use=gsm8k --set task.task.split=test
    nanochat eval --eval bpb --data climbmix --set climbmix.shards=1
    nanochat eval --eval core --set hardware.nproc_per_node=8

    CHECKPOINT is a run, RUN/STAGE (quickstart/base), a tag (d4_w192_h3), a key, NAME@STEP or a folder. `nanochat
    explain NAME` tells an evaluation's settings. Exit codes are those of `nanochat run`.
    """
    folder = find_checkpoint(checkpoint)
    name = f"{STAGE}-{re.sub('[^A-Za-z0-9_-]', '-', model_name(folder))}"[:LONGEST_NAME]
    overrides = _overrides(evals, data, settings, device)
    with tempfile.TemporaryDirectory() as place:
        recipe = Path(place) / f"{name}.toml"
        recipe.write_text(_recipe(name, folder), encoding="utf-8")
        request = Request(recipe=recipe, overrides=overrides, fresh=[STAGE] if fresh else [])
        code = run_recipe(request, make_display(sys.stderr if as_json else None), FileReports())
        run = _run_of(request)
    if code == 0:
        (stage,) = finished_stages(run)
        _print(stage, run, as_json=as_json)
    sys.exit(code)


def _recipe(name: str, checkpoint: Path) -> str:
    """What is the same for all."""
    lines = ["format = 1", f"name = {value_text(name)}", f"[stages.{STAGE}]", 'use = "evaluate"']
    return "\n".join([*lines, f"checkpoint = {value_text(f'path:{checkpoint.absolute()}')}", ""])


def _overrides(evals: Sequence[str], data: Sequence[str], settings: Sequence[str], device: str) -> list[str]:
    """The rest, as values of --set: so they are read and complained of as there."""
    tables = {_table(name): f"stages.{STAGE}.evals.{_table(name)}" for name in evals}
    tables |= {_table(name): f"stages.{STAGE}.data.{_table(name)}" for name in data}
    if len(tables) < len(evals) + len(data):
        raise wrong_input("E407", "one name is given twice", help="give each --eval and each --data once")
    if not data:
        _refuse_without_data(evals)
    tables["hardware"] = "hardware"
    found = [f"{tables[_table(name)]}.use={value_text(name)}" for name in (*evals, *data)]
    if device != "auto":
        found.append(f"hardware.device={value_text(device)}")
    for setting in settings:
        table, dot, rest = setting.partition(".")
        if not dot or table not in tables:
            known = ", ".join(f"{table}.KEY=VALUE" for table in tables)
            raise wrong_input("E407", f"--set {setting} is no setting of what is measured", help=f"there is {known}")
        found.append(f"{tables[table]}.{rest}")
    return found


def _refuse_without_data(evals: Sequence[str]) -> None:
    """InputError E407 for an evaluation that reads sources: the recipe's own check tells a person to edit a recipe."""
    registry = load_registry()
    for name in evals:
        if name in registry.names("eval") and needs_sources(registry.config_class("eval", name)):
            known = ", ".join(registry.names("source"))
            raise wrong_input(
                "E407",
                f"--eval {name} measures on a source of documents, and no --data names one",
                help=f"add --data SOURCE; there is {known or 'none'}",
            )


def _table(name: str) -> str:
    """What a component's table is called: a family's colon is no part of a key."""
    return name.replace(":", "-")


def _run_of(request: Request) -> RunFolder:
    """The run's folder, whether it was there before or not."""
    registry, machine = load_registry(), probe_machine()
    recipe = load_recipe(request.recipe, overrides=request.overrides, registry=registry, machine=machine)
    return RunFolder(make_plan(recipe, machine, Store(), registry).run_folder)


def _print(stage: FinishedStage, run: RunFolder, *, as_json: bool) -> None:
    examples = stage.folder.path / "examples"
    if as_json:
        found: Mapping[str, Any] = {
            "run": run.path.name,
            "figures": stage.figures,
            "settings": read_json(stage.folder.path / CONFIG),
            "examples": str(examples) if examples.is_dir() else None,
        }
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    click.echo()
    print_table(["figure", "value", "n", "standard error"], figure_rows(stage), words=1)
    click.echo()
    if examples.is_dir():
        print_text(f"examples: {examples}")
    print_text(f"run: {run.path.name}; compare it with another by: nanochat diff {run.path.name} OTHER")
