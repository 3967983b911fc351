"""A tool at work, off the engine's thread: it may take its time, raise or hang, and holds up nobody else's answer.

In: tools and what the model wrote for them. Out: a result, or None where there is none. A tool that hangs is given up
after TOOL_SECONDS; its thread is left behind, and ends with the process.
"""

import logging
import threading
import time
from collections.abc import Sequence

from nanochat.inference.tool import Tool

log = logging.getLogger(__name__)

TOOL_SECONDS = 60.0
FIRST_SECONDS = 0.002
"""A tool as quick as the calculator has answered by then, and its result goes into the very next step."""


class ToolCall:
    """Tools that are asked in turn, until one has a result."""

    def __init__(self, tools: Sequence[Tool], code: str, seconds: float = TOOL_SECONDS) -> None:
        self.result: str | None = None
        self._deadline = time.monotonic() + seconds
        self._done = threading.Event()
        self._name = ", ".join(tool.name for tool in tools)
        try:
            threading.Thread(target=self._run, args=(tools, code), name="tool", daemon=True).start()
        except RuntimeError:  # the machine has no thread left
            log.exception("the tool `%s` could not be called", self._name)
            self._done.set()
        self._done.wait(min(FIRST_SECONDS, seconds))

    def finished(self, seconds: float = 0.0) -> bool:
        """Whether there is nothing to wait for any more; it waits for that so many seconds."""
        if self._done.wait(min(seconds, max(0.0, self._deadline - time.monotonic()))):
            return True
        if time.monotonic() < self._deadline:
            return False
        log.error("the tool `%s` was given up: it took too long", self._name)
        return True

    def _run(self, tools: Sequence[Tool], code: str) -> None:
        try:
            self.result = next((result for tool in tools if (result := _ask(tool, code)) is not None), None)
        finally:
            self._done.set()


def _ask(tool: Tool, code: str) -> str | None:
    """A tool must not raise; one that does costs its own result and no other request's answer."""
    try:
        result = tool.run(code)
    except Exception:
        log.exception("the tool `%s` raised on %r", tool.name, code)
        return None
    # Half a surrogate pair, which no tokenizer encodes, becomes a question mark.
    return None if result is None else result.encode("utf-8", "replace").decode("utf-8")
