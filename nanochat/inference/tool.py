"""The contract of a tool: text that the model writes between two special tokens is run, and the result forced in."""

from typing import Protocol


class Tool(Protocol):
    """Runs what the model wrote between `start` and `end`; the result appears between the two output tokens."""

    name: str
    start: str
    """The special token that begins a call: <|python_start|>."""
    end: str

    def run(self, code: str) -> str | None:
        """The result as text, or None where there is none (the call is left without an output). Must not raise."""
