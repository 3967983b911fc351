"""`nanochat import SOURCE FOLDER`: a model of another program as a checkpoint of ours (nanochat/exchange)."""

from pathlib import Path
from typing import Any

import attrs
import click

from nanochat.errors import wrong_input
from nanochat.registry import Registry, load_registry


@click.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--step", type=click.IntRange(0), help="Of several model_NNNNNN.pt; by default the last.")
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path),
    help="Its tokenizer.pkl or tokenizer.json, where that does not lie beside it.",
)
@click.option("--tool", "tools", multiple=True, help="A tool that it was trained to call: calculator. Repeatable.")
def command(source: Path, folder: Path, step: int | None, tokenizer: Path | None, tools: tuple[str, ...]) -> None:
    """Make FOLDER a checkpoint of the model in SOURCE, for `chat`, `serve`, and `init = "path:FOLDER"` in a recipe.

    SOURCE is a folder of Hugging Face's NanoChatForCausalLM, of the public nanochat's model_NNNNNN.pt (the first
    release or the current model), or an export of ours. Nothing in it is executed: pickles are read as data.
    """
    registry = load_registry()
    described = [_tool(name, registry) for name in tools]

    from nanochat.exchange.checkpoint_folder import refuse_taken, write_model
    from nanochat.exchange.source import read

    refuse_taken(folder)  # first: a large model takes a while to read
    weights = read(source, registry, tokenizer_file=tokenizer, step=step)
    if described:
        weights = attrs.evolve(weights, tools=described)
    write_model(weights, folder, registry)
    for note in weights.notes:
        click.echo(f"note: {note}")
    parameters = sum(tensor.numel() for tensor in weights.tensors.values())
    click.echo(f"wrote {folder}, {weights.config.tag()}, {parameters:,} parameters; try it: nanochat chat {folder}")


def _tool(name: str, registry: Registry) -> dict[str, Any]:
    """A tool as a checkpoint describes it, all its options at their defaults."""
    try:
        config = registry.config_class("tool", name)()
    except TypeError as fault:
        raise wrong_input(
            "E407", f"the tool `{name}` has options without a default", help="name it in a recipe instead"
        ) from fault
    return {"use": name, "config": attrs.asdict(config)}
