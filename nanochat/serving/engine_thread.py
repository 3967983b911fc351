"""An engine in a thread of this process: for one that was made here, by a test or a program of one's own.

In: an engine, which belongs to the thread from then on. Out: a `Link` to it. A server whose engine has a process of its
own answers faster (`engine_process`): Python runs one thread at a time.
"""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nanochat.serving.engine_loop import EngineLoop, about
from nanochat.serving.jobs import Hear, Order

if TYPE_CHECKING:
    from nanochat.inference.engine import Engine


class EngineThread:
    """A `Link` to an engine in a thread."""

    pid = None

    def __init__(self, engine: "Engine") -> None:
        self.engine, self.about = engine, about(engine)
        self._loop = EngineLoop(engine)
        self._thread: threading.Thread | None = None

    def start(self, hear: Hear, ended: Callable[[str], None]) -> None:
        self._thread = threading.Thread(target=lambda: ended(self._loop.run(hear)), name="engine", daemon=True)
        self._thread.start()

    def post(self, orders: Sequence[Order]) -> None:
        for order in orders:
            self._loop.inbox.put(order)

    def stop(self) -> None:
        self._loop.inbox.put(None)
        if self._thread is not None:
            self._thread.join()
