"""A line on a terminal that says what goes on now, below the lines that stay. Elsewhere only those are printed."""

import sys
import time
from types import TracebackType

import click

_SECONDS = 0.2
"""Between two changes of the line: reading it takes longer."""


class StatusLine:
    """In use between its `with` and the end of it."""

    def __init__(self, *, err: bool = False) -> None:
        """err: on stderr, where stdout is for results."""
        self._err = err
        self._shown = ""
        self._changed = 0.0

    def __enter__(self) -> "StatusLine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    @property
    def on_terminal(self) -> bool:
        """Whether it is shown at all."""
        return (sys.stderr if self._err else sys.stdout).isatty()

    def show(self, text: str) -> None:
        """What goes on now."""
        now = time.monotonic()
        if self.on_terminal and now - self._changed >= _SECONDS:
            self._clear()
            click.echo(text, nl=False, err=self._err)
            self._shown, self._changed = text, now

    def say(self, text: str) -> None:
        """A line that stays."""
        self._clear()
        click.echo(text, err=self._err)

    def _clear(self) -> None:
        if self._shown:
            click.echo("\r" + " " * len(self._shown) + "\r", nl=False, err=self._err)
            self._shown = ""
