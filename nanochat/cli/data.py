"""`nanochat data`: the text and conversations that a recipe reads: `list`, `get`, `verify`, `stats`, `tokenize`, …"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import click

from nanochat.cli.data_overlap import overlap
from nanochat.cli.data_pack import pack
from nanochat.cli.data_show import show
from nanochat.cli.data_synth import synth
from nanochat.cli.recipe_argument import named_run, recipe_file
from nanochat.cli.sheet import print_table
from nanochat.cli.status_line import StatusLine
from nanochat.cli.transfer_display import TransferDisplay
from nanochat.data.source import split_digest
from nanochat.errors import Diagnostic, StageError
from nanochat.estimating.data_need import DataNeed, pretraining_needs
from nanochat.hardware import probe_machine
from nanochat.quantity import count, size
from nanochat.recipe.load import load_recipe
from nanochat.recipe.resolved import Recipe
from nanochat.registry import load_registry
from nanochat.running.datasets import SPLITS, DataFile, Dataset, ask_all, data_files, datasets, fetch_all, verify_all
from nanochat.stages.pretrain_config import PretrainConfig

WORKERS = 4
LISTING_SECONDS = 5.0
"""How long a listing waits for a hub."""


@click.group("data")
def command() -> None:
    """Look at, fetch, verify and repack the text that a recipe reads."""


def _of_a_recipe(function: Callable[..., Any]) -> Callable[..., Any]:
    """What most are told: a recipe, overrides, and which of its sources."""
    function = click.option("--source", "only", metavar="STAGE[.NAME]", help="Only this source, or those of a stage.")(
        function
    )
    function = click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of the recipe."
    )(function)
    return click.argument("recipe", type=click.Path(path_type=Path))(function)


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_workers = click.option("--workers", type=click.IntRange(1, 64), default=WORKERS, help="Files at a time.")


@command.command("list")
@_of_a_recipe
@_as_json
def list_(recipe: Path, overrides: tuple[str, ...], only: str | None, as_json: bool) -> None:
    """List the sources of RECIPE: their shards, what of them is here, and how many the token budget wants.

    What a source pins on first contact with its hub is pinned here; nothing else is downloaded. A hub that does not
    answer is waited for no longer than a few seconds; then the other sources are listed, and the exit code is 1.
    """
    loaded, found = _open(recipe, overrides, only)
    faults = ask_all(found, seconds=LISTING_SECONDS)
    needs = _needs(loaded)
    described = [_description(dataset, needs, faults.get(dataset.names[0], [])) for dataset in found]
    if as_json:
        click.echo(json.dumps(described, indent=2, ensure_ascii=False))
        sys.exit(1 if faults else 0)
    _print_list(described)
    if faults:
        raise StageError([fault for of_one in faults.values() for fault in of_one])


def _print_list(described: list[dict[str, Any]]) -> None:
    rows = []
    for dataset in described:
        for split, facts in dataset["splits"].items():
            here = "" if facts["here"] is None else f"{facts['here']:,} of {facts['shards']:,}"
            wanted = f"{dataset['shards_needed']:,}" if split == "train" and dataset["shards_needed"] else ""
            cells = [split, f"{facts['shards']:,}", here, size(facts["bytes"]), wanted, facts["digest"][:12]]
            rows.append([", ".join(dataset["names"]), dataset["use"], *cells])
    print_table(["source", "use", "split", "shards", "here", "size", "wanted by its budget", "digest"], rows)
    for dataset in described:
        if dataset["pin"]:
            click.echo(f"{dataset['names'][0]}: {dataset['pin']}")


@command.command("get")
@_of_a_recipe
@_workers
def get(recipe: Path, overrides: tuple[str, ...], only: str | None, workers: int) -> None:
    """Download what the sources of RECIPE read: whole, checked, going on with what came before.

    A run does the same while it trains; this is for doing it beforehand.
    """
    _, found = _open(recipe, overrides, only)
    files = data_files(found)
    missing = [file for file in files if not file.is_here]
    with TransferDisplay(missing) as display:
        faults = fetch_all(missing, workers=workers, on_bytes=display.on_bytes, on_done=display.on_done)
    _finish(files, faults, "here")


@command.command("verify")
@_of_a_recipe
@_workers
@_as_json
def verify(recipe: Path, overrides: tuple[str, ...], only: str | None, workers: int, as_json: bool) -> None:
    """Read every downloaded file of RECIPE and compare it with its manifest. A damaged one is set aside.

    Exits 1 where a file is damaged or missing; `nanochat data get` brings it.
    """
    _, found = _open(recipe, overrides, only)
    files = data_files(found)
    sound: list[str] = []
    faults = verify_all(files, workers=workers, on_done=lambda file: sound.append(str(file.place)))
    if as_json:
        wrong = [attrs.asdict(fault) for fault in faults]
        click.echo(json.dumps({"sound": sorted(sound), "wrong": wrong}, indent=2, ensure_ascii=False))
        sys.exit(1 if faults else 0)
    _finish(files, faults, "sound")


@command.command("stats")
@_of_a_recipe
@click.option("--documents", type=click.IntRange(1), default=10_000, help="Read at most so many of each split.")
@_as_json
def stats(recipe: Path, overrides: tuple[str, ...], only: str | None, documents: int, as_json: bool) -> None:
    """Read the first documents of the sources of RECIPE: how many, how long, how many were passed over."""
    from nanochat.data.text_statistics import text_statistics  # imports NumPy

    _, found = _open(recipe, overrides, only)
    read = [
        (dataset, split, text_statistics(dataset.source, split, documents=documents))
        for dataset in found
        for split in SPLITS
    ]
    if as_json:
        shown = [{"names": [*of.names], "split": split, **attrs.asdict(facts)} for of, split, facts in read]
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    rows = [
        [
            ", ".join(dataset.names),
            split,
            f"{facts.documents:,}" + ("" if facts.whole else ", the first"),
            count(facts.characters),
            size(facts.utf8_bytes),
            *(f"{length:,.0f}" for length in (facts.mean, facts.median, facts.p99, facts.longest)),
            ", ".join(f"{number:,} {reason}" for reason, number in facts.skipped.items()),
        ]
        for dataset, split, facts in read
    ]
    lengths = ["mean length", "median", "99%", "longest"]
    print_table(["source", "split", "documents", "characters", "bytes", *lengths, "passed over"], rows)


@command.command("tokenize")
@_of_a_recipe
def tokenize(recipe: Path, overrides: tuple[str, ...], only: str | None) -> None:
    """Tokenise what RECIPE pretrains on, beforehand.

    Training then reads tokens from disk instead of text: worth it where text is read more than once, by several
    epochs or several runs with one tokenizer. What is tokenised already stays as it is.
    """
    from nanochat.running.tokenizing import tokenized_shards

    record = named_run(recipe) is not None
    machine = probe_machine()
    loaded = load_recipe(recipe_file(recipe), overrides=overrides, machine=machine, record=record)
    registry = load_registry(block=loaded.block)
    tokens = size_on_disk = 0
    with StatusLine() as line:
        shards = tokenized_shards(
            loaded,
            machine,
            registry,
            only=only,
            progress=lambda name, shard, n: line.show(f"{name} {shard.name}: {n:,} documents"),
        )
        for done in shards:
            tokens, size_on_disk = tokens + done.cached.tokens, size_on_disk + done.cached.size
            line.say(f"{done.name} {done.shard.name}: {done.cached.tokens:,} tokens")
    click.echo(f"{tokens:,} tokens, {size(size_on_disk)} on disk")


for more in (pack, overlap, show, synth):
    command.add_command(more)


def _open(recipe: Path, overrides: tuple[str, ...], only: str | None) -> tuple[Recipe, list[Dataset]]:
    record = named_run(recipe) is not None
    loaded = load_recipe(recipe_file(recipe), overrides=overrides, machine=probe_machine(), record=record)
    return loaded, datasets(loaded, load_registry(block=loaded.block), only=only)


def _needs(recipe: Recipe) -> dict[str, DataNeed]:
    """STAGE.NAME → what a pretraining stage's token budget wants of its source."""
    stages = [stage for stage in recipe.stages.values() if isinstance(stage.config, PretrainConfig)]
    return {f"{stage.name}.{need.name}": need for stage in stages for need in pretraining_needs(stage.config)}


def _description(dataset: Dataset, needs: dict[str, DataNeed], faults: Sequence[Diagnostic]) -> dict[str, Any]:
    """A source as plain data; with faults, no more of it. Sizes in bytes; `here`: files, None if none is downloaded."""
    wanted = [needs[name].shards_needed or 0 for name in dataset.names if name in needs]
    splits: dict[str, Any] = {}
    for split in () if faults else SPLITS:
        shards, remote = dataset.source.shards(split), dataset.remote
        splits[split] = {
            "shards": len(shards),
            "here": None if remote is None else sum(remote.state(shard).here for shard in shards),
            "bytes": sum(shard.size_bytes for shard in shards),
            "digest": split_digest(shards),
        }
    return {
        "names": [*dataset.names],
        "use": dataset.use,
        "pin": dataset.remote.pin() if dataset.remote and not faults else "",
        "shards_needed": max(wanted, default=0) or None,
        "splits": splits,
        "faults": [attrs.asdict(fault) for fault in faults],
    }


def _finish(files: list[DataFile], faults: list[Any], state: str) -> None:
    """One line about what is well; StageError with all that is not."""
    total = size(sum(file.shard.size_bytes for file in files))
    if files:
        click.echo(f"{len(files) - len(faults):,} of {len(files):,} files ({total}) are {state}")
    else:
        click.echo("no source of it downloads anything")
    if faults:
        raise StageError(faults)
