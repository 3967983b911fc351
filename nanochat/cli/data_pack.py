"""`nanochat data pack RECIPE FOLDER`: any source of a recipe, shuffled, as .parquet shards."""

from pathlib import Path
from typing import Any

import attrs
import click

from nanochat.cli.recipe_argument import recipe_file
from nanochat.config import rules_of
from nanochat.errors import wrong_input
from nanochat.hardware import probe_machine
from nanochat.quantity import count, size
from nanochat.recipe.load import load_recipe
from nanochat.recipe.notation import key_text, value_text
from nanochat.registry import load_registry
from nanochat.running.datasets import datasets

SHARD_CHARACTERS, GROUP_ROWS = 250_000_000, 1_024


@click.command("pack")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--source", "only", metavar="STAGE.NAME", help="Which source, where the recipe has several.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of the recipe.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Decides the order of the documents.")
@click.option("--shard-characters", type=click.IntRange(1), default=SHARD_CHARACTERS, help="Of a shard, about.")
@click.option("--group-rows", type=click.IntRange(1), default=GROUP_ROWS, help="Documents of a row group.")
def pack(
    recipe: Path,
    folder: Path,
    only: str | None,
    overrides: tuple[str, ...],
    seed: int,
    shard_characters: int,
    group_rows: int,
) -> None:
    """Repack a source of RECIPE into FOLDER: shuffled .parquet shards, zstd, with page checksums.

    The same source, seed and sizes give the same bytes. While it works, the text lies on disk once more, uncompressed.
    """
    loaded = load_recipe(recipe_file(recipe), overrides=overrides, machine=probe_machine())
    found = datasets(loaded, load_registry(block=loaded.block), only=only)
    if len(found) > 1:
        named = ", ".join(dataset.names[0] for dataset in found)
        raise wrong_input("E407", f"{loaded.name} has several sources: {named}", help="choose one by --source")
    from nanochat.data.pack import pack as pack_source  # imports pyarrow

    (dataset,) = found
    written = pack_source(
        dataset.source,
        folder,
        description={"use": dataset.use, **_options(dataset.config)},
        seed=seed,
        shard_characters=shard_characters,
        group_rows=group_rows,
        progress=click.echo,
    )
    for split, shards in written.items():
        documents, characters = sum(s.documents for s in shards), sum(s.characters for s in shards)
        total = size(sum(shard.size for shard in shards))
        click.echo(f"{split}: {len(shards):,} shards, {documents:,} documents, {count(characters)} characters, {total}")
    click.echo(f"\n{_as_used(dataset.names[0], folder.resolve(), validation=bool(written['validation']))}")


def _options(config: Any) -> dict[str, Any]:
    """What of a source's options decides its documents. Where they lie is for nobody else."""
    deciding = [field.name for field in attrs.fields(type(config)) if not rules_of(field).execution]
    options = {name: getattr(config, name) for name in deciding}
    return {name: value.name if isinstance(value, Path) else value for name, value in options.items()}


def _as_used(name: str, folder: Path, *, validation: bool) -> str:
    """The lines of a recipe that read the folder: its paths are whole, since a recipe's are relative to its file."""
    stage, _, part = name.partition(".")
    lines = [f"[{key_text(('stages', stage, 'data', part))}]", 'use = "files"']
    lines.append(f"path = {value_text(folder / 'train')}")
    if validation:
        lines.append(f"validation = {value_text(folder / 'validation')}")
    return "\n".join(lines)
