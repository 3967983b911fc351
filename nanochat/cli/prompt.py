"""A command's prompt: from its option, or from stdin."""

import sys

from nanochat.errors import InputError, wrong_input


def given_prompt(option: str | None) -> str:
    """The option's text, else all of stdin but for the line's end that `echo` writes after a text.

    InputError E407 where there is none, or it is no UTF-8.
    """
    try:
        text = sys.stdin.read().removesuffix("\n") if option is None else option
    except UnicodeError as fault:
        raise _no_text("the prompt", fault) from fault
    check_text(text, "the prompt")
    if not text.strip():
        raise wrong_input("E407", "the prompt is empty", help='give it with -p "…", or write it to stdin')
    return text


def check_text(text: str, what: str) -> None:
    """InputError E407 for bytes that are no UTF-8: Python takes them in as halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeError as fault:
        raise _no_text(what, fault) from fault


def _no_text(what: str, fault: UnicodeError) -> InputError:
    wrong = fault.object[fault.start] if isinstance(fault, UnicodeEncodeError | UnicodeDecodeError) else "?"
    byte = wrong if isinstance(wrong, int) else ord(wrong) & 0xFF  # an undecodable byte b came as U+DC00 + b
    message = f"{what} is no UTF-8 text: it holds the byte 0x{byte:02x}"
    return wrong_input("E407", message, help="set the terminal to UTF-8, and save files as UTF-8")
