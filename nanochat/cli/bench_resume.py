"""`nanochat bench resume`: that a run which is killed goes on as if nothing had been, shown on this machine."""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from nanochat.cli.recipe_argument import recipe_file
from nanochat.cli.sheet import print_pairs, print_table
from nanochat.errors import EXIT_DONE, EXIT_STAGE_FAILED, wrong_input
from nanochat.estimating.estimate import pretraining_stage
from nanochat.hardware import probe_machine
from nanochat.home import data_dir
from nanochat.recipe.load import load_recipe

if TYPE_CHECKING:
    from nanochat.running.resume_proof import Proof

_SHOWN = 5
_SMALL = """
format = 1
name = "resume-proof"
[stages.tok]
use = "tokenizer"
vocab_size = 512
[stages.tok.data.stories]
use = "stories"
size = 200
[stages.base]
use = "pretrain"
tokenizer = "stage:tok"
total_batch_size = 256
device_batch_size = 2
packing_buffer = 32
[stages.base.model]
use = "gpt"
depth = 2
dim = 192
head_dim = 64
sequence_len = 64
[stages.base.data.stories]
use = "stories"
size = 2000
[stages.base.optim.matrices]
use = "muon"
match = "blocks.*"
[stages.base.optim.rest]
use = "adamw"
match = "[!b]*"
[stages.base.optim.backout]
use = "adamw"
match = "backout_lambda"
"""
"""What is trained without a RECIPE: steps of some hundredths of a second, checkpoints of 13 MB."""


@click.command("resume")
@click.argument("recipe", type=click.Path(path_type=Path), required=False)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of the recipe.")
@click.option("--kills", type=click.IntRange(1, 1000), default=15, show_default=True, help="How often it is killed.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of whom and when.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(recipe: Path | None, overrides: tuple[str, ...], kills: int, seed: int, as_json: bool) -> None:
    """Show that a run which is killed goes on as if nothing had been.

    RECIPE, or a small one of our own, is trained twice by two processes, up to its first stage that pretrains:
    undisturbed, and with `kill -9` of ranks, torchrun's agent and the runner at random moments, among them those in
    which a checkpoint is written. Every loss, every batch and the last checkpoint must be equal to the bit: exit 1 if
    anything differs. It takes 10 steps and 6 more a kill, unless --set says another number.
    """
    with tempfile.TemporaryDirectory(prefix="nanochat-resume-") as folder:
        if recipe is None:
            path = Path(folder) / "small.toml"
            path.write_text(_SMALL)
        else:
            path = recipe_file(recipe)
        loaded = load_recipe(path, overrides=overrides, machine=probe_machine())
        name = pretraining_stage(loaded)
        if name is None:
            raise wrong_input("E405", f"{loaded.name} has no stage that pretrains")
        from nanochat.running.resume_proof import Trial

        trial = Trial(
            recipe=path,
            stage=name,
            overrides=[*_settings(name, kills), *overrides],
            folder=Path(folder),
            data=data_dir() if recipe else None,
        )
        proof = trial.prove(kills, seed, lambda line: click.echo(line, err=True))
    if as_json:
        more = {"differences": proof.comparison.differences, "equal": proof.comparison.equal}
        click.echo(json.dumps(attrs.asdict(proof) | more, indent=2))
    else:
        _print(proof)
    sys.exit(EXIT_DONE if proof.comparison.equal else EXIT_STAGE_FAILED)


def _settings(stage: str, kills: int) -> list[str]:
    """Overrides: two ranks below an agent for this stage, one process for others; all written down that is compared."""
    hardware = {"device": "cpu", "nodes": 1, "nproc_per_node": 1, "launcher": "local"}
    own = {"nproc_per_node": 2, "launcher": "torchrun", "restarts": 1_000_000}
    training = {"steps": 10 + 6 * kills, "checkpoint_every": 3, "log_every": 1, "batch_digests": "true"}
    return [
        *(f"hardware.{key}={value}" for key, value in hardware.items()),
        *(f"stages.{stage}.hardware.{key}={value}" for key, value in own.items()),
        *(f"stages.{stage}.{key}={value}" for key, value in training.items()),
    ]


def _print(proof: "Proof") -> None:
    from nanochat.running.resume_proof import MOMENTS, VICTIMS

    rows = [[victim, *(str(proof.count(victim, moment)) for moment in MOMENTS)] for victim in VICTIMS]
    rows = [[*row, str(sum(map(int, row[1:])))] for row in rows]
    totals = [str(sum(int(row[i]) for row in rows)) for i in range(1, len(MOMENTS) + 2)]
    print_table(["kill -9", "in its start", "in a step", "in a write", "all"], [*rows, ["all", *totals]], words=1)
    found = proof.comparison
    losses = [f"step {step}: {a or 'none'} and {b or 'none'}" for step, (a, b) in found.losses.items()]
    batches = [f"step {step} of rank {rank}" for rank, step in found.batches]
    click.echo()
    print_pairs(
        [
            ("restarts", f"{proof.restarts_by_runner} by the runner, {proof.restarts_by_hand} of the runner itself"),
            ("losses", _verdict(losses, f"{found.losses_compared} steps, as float.hex")),
            ("batches", _verdict(batches, f"{found.batches_compared} of ranks, those of repeated steps too")),
            ("last checkpoint", _verdict(found.files, f"{found.files_compared} files; {found.state[:16]}")),
            ("differences", str(found.differences)),
        ]
    )
    click.secho("equal to the bit" if found.equal else "not equal", bold=True, fg="green" if found.equal else "red")


def _verdict(differing: Sequence[str], compared: str) -> str:
    if not differing:
        return f"equal ({compared})"
    more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    return f"{len(differing)} differ ({compared}): {', '.join(differing[:_SHOWN])}{more}"
