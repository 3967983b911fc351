"""An answer on the terminal while it is written: text as it comes, tool calls dim, `[2+2 = 4]`, `[search: x = 42]`.

In: an engine and a request of it. Out: what is printed. Control characters, which a terminal would obey, are replaced.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from nanochat.printable import printable

if TYPE_CHECKING:
    from nanochat.inference.completion import Part
    from nanochat.inference.engine import Engine
    from nanochat.inference.request import Request


def print_answer(engine: "Engine", request: "Request", interrupted: threading.Event | None = None) -> None:
    """Compute and print until the request is answered, or the event cancels it. Whatever is raised, the engine is rid
    of the request.
    """
    printer = AnswerPrinter()
    try:
        while request.finish_reason is None:
            engine.step()
            if interrupted is not None and interrupted.is_set():
                engine.cancel(request)
            for increment in request.transcript.take():
                printer.add(increment)
    finally:
        engine.cancel(request)  # one that was answered stays as it is
        printer.end()
    if request.finish_reason == "cancelled":
        click.secho("(stopped)", dim=True, err=True)
    elif len(request.ids) == engine.context:
        click.secho("(cut: the context is full)", dim=True, err=True)


class AnswerPrinter:
    """Prints increments; a call's bracket stays open until its result, or something else, follows."""

    def __init__(self) -> None:
        self.in_call = False

    def add(self, increment: "Part") -> None:
        """Print an increment; one without text begins a part."""
        kind, text = increment["type"], printable(increment["text"])
        if kind == "text":
            self._close()
            click.echo(text, nl=False)
        elif not text:
            if kind == "python":
                self._close()
            self.in_call = True
            click.secho(f"[{called(increment)}" if kind == "python" else " = ", dim=True, nl=False)
        else:
            click.secho(text, dim=True, nl=False)

    def end(self) -> None:
        """End the line."""
        self._close()
        click.echo()

    def _close(self) -> None:
        if self.in_call:
            click.secho("]", dim=True, nl=False)
            self.in_call = False


def called(part: "Part") -> str:
    """What stands before a call's expression: the name of a tool that has special tokens of its own."""
    return f"{printable(part['tool'])}: " if "tool" in part else ""


@contextmanager
def interruption() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets instead of raising in the middle of a step."""
    asked = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
