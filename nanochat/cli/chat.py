"""`nanochat chat [CHECKPOINT]`: talk to a model in the terminal."""

import sys
from pathlib import Path
from typing import Any

import click

from nanochat.cli.chat_session import ChatSession, answer
from nanochat.cli.checkpoint_engine import checkpoint_argument, device_option, open_engine
from nanochat.cli.dialogue import Dialogue
from nanochat.cli.line_reader import LineReader
from nanochat.cli.prompt import check_text, given_prompt
from nanochat.cli.sampling_options import sampling_options
from nanochat.home import home
from nanochat.inference.sampling import Sampling

HELP = "/help lists commands · /quit or Ctrl-D ends · Ctrl-C stops an answer"


@click.command("chat")
@checkpoint_argument
@click.option("-p", "--prompt", help="Answer this and exit. Without it, and without a terminal, stdin is the prompt.")
@click.option("--system", help="What the model is told before the conversation.")
@sampling_options
@device_option
def command(checkpoint: str | None, prompt: str | None, system: str | None, device: str, **sampling: Any) -> None:
    """Talk to CHECKPOINT; without one, to the newest finished chat model.

    CHECKPOINT is a run, RUN/STAGE (quickstart/sft), a tag (d4_w192_h3), a key, NAME@STEP or a folder.
    """
    settings = Sampling(**sampling)  # what is wrong with it is said before a model is loaded
    check_text(system or "", "--system")
    interactive = prompt is None and sys.stdin.isatty()
    question = "" if interactive else given_prompt(prompt)
    engine, name = open_engine(checkpoint, device=device, rows=1)
    dialogue = Dialogue(engine, settings, system)
    if interactive:
        click.secho(f"{name}, a context of {engine.context} tokens. {HELP}", dim=True)
        converse(ChatSession(dialogue), home() / "chat_history")
    else:
        answer(dialogue, question)


def converse(session: ChatSession, history: Path) -> None:
    """Ask for lines and answer them until /quit or the end of input."""
    reader = LineReader(history)
    try:
        while True:
            try:
                if not session.take(reader.read()):
                    return
            except EOFError:
                click.echo()
                return
            except (KeyboardInterrupt, click.Abort):
                click.secho(f"\n{HELP}", dim=True)
    finally:
        reader.close()
