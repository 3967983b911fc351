"""A command's prompt: from its option, or from stdin."""

import sys

from nanochat.errors import wrong_input


def given_prompt(option: str | None) -> str:
    """The option's text, else all of stdin. InputError E407 where there is none, or it is no UTF-8."""
    try:
        text = sys.stdin.read() if option is None else option
        text.encode()  # undecodable bytes of a command line come as halves of surrogate pairs
    except UnicodeError as fault:
        raise wrong_input("E407", f"the prompt is no UTF-8 text: {fault}") from fault
    if not text.strip():
        raise wrong_input("E407", "the prompt is empty", help='give it with -p "…", or write it to stdin')
    return text
