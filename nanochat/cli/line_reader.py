"""What a person types at a terminal: one message a line, several where they are pasted or stand between triple quotes.

In: a terminal, and a file for what was typed before. Out: messages. Arrow keys and history come from Python's readline,
where it has one.
"""

import io
import select
import sys
from pathlib import Path
from types import ModuleType

PASTE_SECONDS = 0.05
"""Further lines that are there so soon were not typed."""
QUOTES = '"""'
KEPT_LINES = 1000


class LineReader:
    """Reads messages, and keeps them in `history`, if it can be written."""

    def __init__(self, history: Path) -> None:
        self.history, self.readline = history, _readline()
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")  # a wrong byte is the line's fault, and ends no chat
        if self.readline is not None:
            self.readline.set_history_length(KEPT_LINES)
            try:
                self.readline.read_history_file(history)
            except OSError:  # none yet, or another program's
                self.readline.clear_history()

    def read(self) -> str:
        """The next message, without the space around it. EOFError at the end of input, KeyboardInterrupt for Ctrl-C."""
        first = input("> ")
        if first.strip().startswith(QUOTES):
            return self._quoted(first.strip().removeprefix(QUOTES))
        lines = [first]
        while select.select([sys.stdin], [], [], PASTE_SECONDS)[0]:
            lines.append(input())
        if len(lines) > 1:  # the last line of what was pasted may still be in the making
            lines.append(input("… "))
        return "\n".join(lines).strip()

    def close(self) -> None:
        """Write the history down."""
        if self.readline is not None:
            try:
                self.history.parent.mkdir(parents=True, exist_ok=True)
                self.readline.write_history_file(self.history)
                self.history.chmod(0o600)
            except OSError:
                pass  # a conversation is no worse without

    def _quoted(self, line: str) -> str:
        lines = []
        while not line.rstrip().endswith(QUOTES):
            lines.append(line)
            line = input("… ")
        return "\n".join([*lines, line.rstrip().removesuffix(QUOTES)]).strip()


def _readline() -> ModuleType | None:
    try:
        import readline  # importing it is what changes input()
    except ImportError:
        return None
    return readline
