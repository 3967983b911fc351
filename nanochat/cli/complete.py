"""`nanochat complete [CHECKPOINT]`: let a model continue a text, outside any conversation."""

from typing import Any

import click

from nanochat.cli.answer_printer import print_answer
from nanochat.cli.checkpoint_engine import checkpoint_argument, device_option, open_engine
from nanochat.cli.prompt import given_prompt
from nanochat.cli.sampling_options import sampling_options
from nanochat.inference.sampling import Sampling
from nanochat.printable import printable


@click.command("complete")
@checkpoint_argument
@click.option("-p", "--prompt", help="The text to continue; without it, stdin.")
@sampling_options
@device_option
def command(checkpoint: str | None, prompt: str | None, device: str, **sampling: Any) -> None:
    """Print a text and how CHECKPOINT continues it.

    CHECKPOINT is a run, RUN/STAGE (quickstart/base), a tag (d4_w192_h3), a key, NAME@STEP or a folder.
    """
    settings = Sampling(**sampling)
    text = given_prompt(prompt)
    engine, _ = open_engine(checkpoint, device=device, rows=1)
    request = engine.submit([engine.tokenizer.bos_id, *engine.tokenizer.encode(text)], settings)
    click.echo(printable(text), nl=False)
    print_answer(engine, request)
