"""`nanochat export [CHECKPOINT] --format hf|safetensors`: a model for other programs (nanochat/exchange)."""

from pathlib import Path

import click

from nanochat.cli.checkpoint_engine import checkpoint_argument, model_name
from nanochat.registry import load_registry
from nanochat.running.find import find_checkpoint


@click.command("export")
@checkpoint_argument
@click.option("--format", "form", type=click.Choice(["hf", "safetensors"]), required=True, help="What to write.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="The folder to make; by default NAME-FORMAT, here."
)
def command(checkpoint: str | None, form: str, output: Path | None) -> None:
    """Write the model of CHECKPOINT (without one, of the newest finished chat model) into a folder of its own.

    hf: for Hugging Face transformers (NanoChatForCausalLM), with tokenizer and chat template. It computes only
    the first release's model, in any size.

    safetensors: weights, config and tokenizer without the state of training; every model. The folder is itself a
    CHECKPOINT.
    """
    found = find_checkpoint(checkpoint)
    folder = output or Path(f"{model_name(found)}-{form}")

    from nanochat.exchange import huggingface
    from nanochat.exchange.checkpoint_folder import copy_model, read_model

    if form == "safetensors":
        copy_model(found, folder)
        click.echo(f"wrote {folder}; try it: nanochat chat {folder}")
    else:
        huggingface.write(read_model(found, load_registry()), folder)
        click.echo(f'wrote {folder}; in Python: AutoModelForCausalLM.from_pretrained("{folder}")')
