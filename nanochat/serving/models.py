"""The models that a server has: a name for each checkpoint, and the engines that answer for it.

In: engines, as they are loaded. Out: for a name the engine with the least to do.
"""

import time
from collections.abc import Sequence

import attrs

from nanochat.inference.engine import Engine
from nanochat.serving.engine_thread import EngineThread
from nanochat.serving.faults import SHOWN, RequestError

CAPACITY = 256
"""Answers of an engine that are being written or wait; one more is turned away."""


@attrs.frozen
class Served:
    """One model: its engines, one a device, all with the same weights."""

    name: str
    threads: Sequence[EngineThread]
    created: int = attrs.field(factory=lambda: int(time.time()))

    @property
    def engine(self) -> Engine:
        """Any of them: tokenizer, tools and context are the same."""
        return self.threads[0].engine

    def least_loaded(self) -> EngineThread:
        """The engine with the fewest open answers, of those that still answer."""
        return min(self.threads, key=lambda thread: (thread.ended is not None, thread.open))


class Models:
    """What is served; empty and not ready while it is being loaded."""

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.ready = False
        self._served: dict[str, Served] = {}

    def add(self, name: str, engines: Sequence[Engine]) -> None:
        """Serve a model by a name that no other has; its engines belong to their threads from now on."""
        assert name not in self._served, f"two models are called {name}"
        threads = [EngineThread(engine, capacity=self.capacity) for engine in engines]
        for thread in threads:
            thread.start()
        self._served[name] = Served(name, threads)

    @property
    def served(self) -> list[Served]:
        """All of them; the first answers where a request names none."""
        return list(self._served.values())

    @property
    def threads(self) -> list[EngineThread]:
        """Those of all models."""
        return [thread for served in self.served for thread in served.threads]

    def find(self, name: str | None) -> Served:
        """The model of that name. RequestError 404 where there is none, 503 while it may still be loaded."""
        if name is None and self._served:
            return self.served[0]
        if name in self._served:
            return self._served[name]
        if not self.ready:
            raise RequestError(503, "the model is being loaded; try again in a moment", code="loading", retry=2)
        known = ", ".join(f"`{each}`" for each in self._served)
        raise RequestError(
            404, f"there is no model `{(name or '')[:SHOWN]}`; this server has {known}", param="model",
            code="model_not_found",
        )  # fmt: skip

    def stop(self) -> None:
        """End every engine's thread."""
        for thread in self.threads:
            thread.stop()
