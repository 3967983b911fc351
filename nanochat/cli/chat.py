"""`nanochat chat [CHECKPOINT]`: talk to a model in the terminal."""

import sys
import threading
from typing import Any

import click

from nanochat.cli.answer_printer import interruption, print_answer
from nanochat.cli.checkpoint_engine import checkpoint_argument, device_option, open_engine
from nanochat.cli.dialogue import Dialogue
from nanochat.cli.prompt import given_prompt
from nanochat.cli.sampling_options import sampling_options
from nanochat.errors import NanochatError
from nanochat.inference.sampling import Sampling

HELP = "/reset begins anew · /quit or Ctrl-D ends · Ctrl-C stops an answer"


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
    interactive = prompt is None and sys.stdin.isatty()
    question = "" if interactive else given_prompt(prompt)
    engine, name = open_engine(checkpoint, device=device, rows=1)
    dialogue = Dialogue(engine, settings, system)
    if interactive:
        click.secho(f"{name}, a context of {engine.context} tokens. {HELP}", dim=True)
        converse(dialogue)
    else:
        answer(dialogue, question)


def converse(dialogue: Dialogue) -> None:
    """Ask for lines and answer them until /quit or the end of input."""
    _enable_line_editing()
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.secho(f"\n{HELP}", dim=True)
            continue
        match line:
            case "":
                continue
            case "/quit" | "/exit":
                return
            case "/reset":
                dialogue.reset()
                click.secho("(a new conversation)", dim=True)
            case _ if line.startswith("/"):
                click.secho(HELP, dim=True)
            case _:
                _answer_or_explain(dialogue, line)


def answer(dialogue: Dialogue, question: str, interrupted: threading.Event | None = None) -> None:
    """Answer one question; say what was left out of the conversation for it. The event stops the answer."""
    request, left_out = dialogue.ask(question)
    if left_out:
        note = f"(the conversation no longer fits the context: its {left_out} oldest messages were left out)"
        click.secho(note, dim=True, err=True)
    print_answer(dialogue.engine, request, interrupted)
    dialogue.answered(request)


def _answer_or_explain(dialogue: Dialogue, question: str) -> None:
    try:
        with interruption() as interrupted:
            answer(dialogue, question, interrupted)
    except NanochatError as fault:
        click.secho(str(fault), fg="red", err=True)


def _enable_line_editing() -> None:
    """Arrow keys and history, where Python has them."""
    try:
        import readline  # noqa: F401 (importing it is what changes input())
    except ImportError:
        return
