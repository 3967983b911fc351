"""The command line's options for sampling, the same for every command that writes text."""

from collections.abc import Callable
from typing import Any

import click

from nanochat.inference.sampling import Sampling

_DEFAULT = Sampling()


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command an option for each field of `Sampling`, by the same name."""
    options = [
        click.option(
            "--temperature",
            type=float,
            default=_DEFAULT.temperature,
            show_default=True,
            help="0: no chance in it.",
        ),
        click.option("--top-k", type=int, default=_DEFAULT.top_k, help="Only the k likeliest tokens; 0: all."),
        click.option("--top-p", type=float, default=_DEFAULT.top_p, help="Only the likeliest that reach this share."),
        click.option("--min-p", type=float, default=_DEFAULT.min_p, help="Only those so likely beside the likeliest."),
        click.option(
            "--repetition-penalty", type=float, default=_DEFAULT.repetition_penalty, help="Above 1: less of it."
        ),
        click.option("--stop", multiple=True, help="The answer ends before this text; several may be given."),
        click.option("--max-tokens", type=int, help="The longest answer; else as much as the context holds."),
        click.option("--seed", type=int, help="The same seed gives the same answer."),
    ]
    for option in reversed(options):
        command = option(command)
    return command
