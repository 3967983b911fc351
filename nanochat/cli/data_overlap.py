"""`nanochat data overlap RECIPE`: does what a recipe evaluates on stand in what it trains on?"""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
import click

from nanochat.cli.recipe_argument import named_run, recipe_file
from nanochat.cli.sheet import print_table, print_text
from nanochat.config import Artifact, Component
from nanochat.data.overlap import N, Overlap, overlaps
from nanochat.data.source import Source
from nanochat.data.task import Task, spoken
from nanochat.errors import wrong_input
from nanochat.hardware import probe_machine
from nanochat.recipe.evaluations import needs_sources
from nanochat.recipe.load import load_recipe
from nanochat.recipe.resolved import Recipe
from nanochat.registry import Registry, load_registry


@attrs.frozen(kw_only=True)
class Trained:
    """Something that a stage trains on."""

    name: str
    documents: int
    whole: bool
    overlaps: dict[str, Overlap]


@click.command("overlap")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of the recipe.")
@click.option("--documents", type=click.IntRange(1), default=100_000, help="Read at most so many of each source.")
@click.option("--words", "n", type=click.IntRange(2), default=N, show_default=True, help="How long a run must be.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with each text that was found.")
def overlap(recipe: Path, overrides: tuple[str, ...], documents: int, n: int, as_json: bool) -> None:
    """Look for runs of 13 words that RECIPE's evaluations share with what it trains on.

    Evaluations whose config can tell its texts are looked at, and the validation splits that bpb
    is measured on; against the
    sources' training splits and the tasks of finetuning.
    """
    record = named_run(recipe) is not None
    loaded = load_recipe(recipe_file(recipe), overrides=overrides, machine=probe_machine(), record=record)
    registry = load_registry(block=loaded.block)
    notes: list[str] = []
    sets = dict(_evaluated(loaded, registry, documents, notes))
    if not sets:
        raise wrong_input("E405", f"{loaded.name} evaluates on no texts that can be told", help="; ".join(notes))
    found = [_against(name, texts, sets, documents, n) for name, texts in _trained(loaded, registry, notes)]
    if as_json:
        click.echo(json.dumps({"words": n, "sources": [attrs.asdict(one) for one in found], "notes": notes}, indent=2))
        return
    rows = [row for one in found for row in _rows(one)]
    titles = ["evaluated on", "trained on", "texts", "too short", "found", "share", "runs found"]
    print_table(titles, rows, words=2, heads=2)
    for one in found:
        if not one.whole:
            print_text(f"{one.name}: the first {one.documents:,} documents were read; --documents reads more")
    for note in notes:
        print_text(note)


def _rows(one: Trained) -> Iterator[list[str]]:
    for name, seen in one.overlaps.items():
        told = seen.texts > seen.short
        share = f"{seen.share:.2%}" if told else "—"
        runs = f"{seen.grams_found:,} of {seen.grams:,}"
        yield [name, one.name, f"{seen.texts:,}", f"{seen.short:,}", f"{len(seen.found):,}", share, runs]


def _against(name: str, texts: Iterable[str], sets: dict[str, list[str]], documents: int, n: int) -> Trained:
    count = 0

    def counted(given: Iterator[str]) -> Iterator[str]:
        nonlocal count
        for text in islice(given, documents):
            count += 1
            yield text

    given = iter(texts)
    # A split is not held against itself: what a source trains on and validates on it has told apart already.
    found = overlaps(sets, counted(given), n)
    return Trained(name=name, documents=count, whole=next(given, None) is None, overlaps=found)


def _evaluated(recipe: Recipe, registry: Registry, documents: int, notes: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Names and texts of what is evaluated on."""

    def build(component: Component) -> Any:
        return registry.builder(component.kind, component.use)(component.config)

    for stage in recipe.stages.values():
        reads_sources = False
        for part in getattr(stage.config, "evals", {}).values():
            name = f"{stage.name}.{part.name}"
            if needs_sources(type(part.config)):
                reads_sources = True
                continue
            texts = getattr(part.config, "texts", None)
            if texts is None or _waits(part.config):
                why = "does not tell its texts" if texts is None else "needs what another stage makes"
                notes.append(f"{name} ({part.use}) is left out: it {why}")
                continue
            for own, text in texts(build):
                yield f"{name}.{own}" if own else name, text
        for source_name, source in _parts(stage.config, "source") if reads_sources else ():
            split: Source = build(source)
            shards = split.shards("validation")
            held = (text for shard in shards for text in split.documents(shard))
            yield f"{stage.name}.{source_name}: validation", list(islice(held, documents))


def _trained(recipe: Recipe, registry: Registry, notes: list[str]) -> Iterator[tuple[str, Iterable[str]]]:
    """Names and texts of what is trained on, each once."""
    seen: list[Any] = []
    for stage in recipe.stages.values():
        if stage.use == "evaluate" or getattr(type(stage.config), "produces", "") != "checkpoint":
            continue
        for kind in ("source", "task"):
            for name, part in _parts(stage.config, kind):
                if (part.use, part.config) in seen:
                    continue
                seen.append((part.use, part.config))
                if _waits(part.config):
                    notes.append(f"{stage.name}.{name} ({part.use}) is left out: it needs what another stage makes")
                    continue
                built = registry.builder(kind, part.use)(part.config)
                yield f"{stage.name}.{name}", _documents(built) if kind == "source" else _said(built)


def _documents(source: Source) -> Iterator[str]:
    return (text for shard in source.shards("train") for text in source.documents(shard))


def _said(task: Task) -> Iterator[str]:
    return (spoken(task[index]) for index in range(len(task)))


def _parts(config: Any, kind: str) -> Iterator[tuple[str, Component]]:
    for name, part in getattr(config, "data", {}).items():
        if isinstance(part, Component) and part.kind == kind:
            yield name, part


def _waits(config: Any) -> bool:
    """Whether it holds an artifact, which is not here before its stage has run."""
    if isinstance(config, Artifact):
        return config.path is None
    if isinstance(config, Component):
        return _waits(config.config)
    return attrs.has(type(config)) and any(
        _waits(getattr(config, field.name)) for field in attrs.fields(type(config)) if hasattr(config, field.name)
    )
