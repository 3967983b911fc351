"""The settings of sampling that a person can give: as options of every command that writes text, and in a chat.

In: names and help. Out: options, whose types, defaults and limits are `Sampling`'s.
"""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import click

from nanochat.inference.sampling import Sampling

NUMBERS: Mapping[str, str] = {
    "temperature": "0: the likeliest token each time, and the same answer.",
    "top_k": "Only the k likeliest tokens; 0: all.",
    "top_p": "Only the likeliest that reach this share.",
    "min_p": "Only those so likely beside the likeliest.",
    "presence_penalty": "Against each token that was written.",
    "frequency_penalty": "Against it for each time that it was.",
    "repetition_penalty": "Above 1: less of it.",
    "max_tokens": "The longest answer; else as much as the context holds.",
    "seed": "The same seed gives the same answer.",
}
"""Fields of `Sampling` that are numbers → what they do."""
_DEFAULTS = {field.name: field.default for field in attrs.fields(Sampling)}


def is_optional(name: str) -> bool:
    """Whether a number may be left open."""
    return _DEFAULTS[name] is None


def number_type(name: str) -> type[int] | type[float]:
    """What a number is; those without a default are whole."""
    return float if isinstance(_DEFAULTS[name], float) else int


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command an option for each of `NUMBERS`, by the same name, and --stop."""
    options = [
        click.option(
            f"--{name.replace('_', '-')}", type=number_type(name), default=_DEFAULTS[name], show_default=True, help=what
        )
        for name, what in NUMBERS.items()
    ]
    options.append(
        click.option("--stop", multiple=True, help="The answer ends before this text; several may be given.")
    )
    for option in reversed(options):
        command = option(command)
    return command
