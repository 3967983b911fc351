"""The models that a server has: a name for each checkpoint, and the engines that answer for it.

In: links to engines, as they are loaded. Out: for a name the engine with the least to do.
"""

import time
from collections.abc import Sequence
from contextlib import suppress

import attrs
import psutil

from nanochat.serving.engine_client import EngineClient
from nanochat.serving.faults import SHOWN, RequestError
from nanochat.serving.jobs import About, Link

CAPACITY = 256
"""Answers of an engine that are being written or wait; one more is turned away."""


@attrs.frozen
class Served:
    """One model: its engines, one a device, all with the same weights."""

    name: str
    engines: Sequence[EngineClient]
    created: int = attrs.field(factory=lambda: int(time.time()))

    @property
    def about(self) -> About:
        """Of any of them: tokenizer, tools and context are the same."""
        return self.engines[0].about

    def least_loaded(self) -> EngineClient:
        """The engine with the fewest open answers, of those that still answer."""
        return min(self.engines, key=lambda engine: (engine.ended is not None, engine.open))


class Models:
    """What is served; empty and not ready while it is being loaded."""

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.ready = False
        self._served: dict[str, Served] = {}

    def add(self, name: str, links: Sequence[Link]) -> None:
        """Serve a model, by a name that no other has, with the engines that the links lead to."""
        assert name not in self._served, f"two models are called {name}"
        engines = [EngineClient(link, capacity=self.capacity) for link in links]
        for engine in engines:
            engine.start()
        self._served[name] = Served(name, engines)

    @property
    def served(self) -> list[Served]:
        """All of them; the first answers where a request names none."""
        return list(self._served.values())

    @property
    def engines(self) -> list[EngineClient]:
        """Those of all models."""
        return [engine for served in self.served for engine in served.engines]

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

    def resident_bytes(self) -> int:
        """Memory of this process and those of its engines; pages that they share count in each."""
        found: int = psutil.Process().memory_info().rss
        for pid in [engine.pid for engine in self.engines if engine.pid is not None]:
            with suppress(psutil.NoSuchProcess):
                found += psutil.Process(pid).memory_info().rss
        return found

    def stop(self) -> None:
        """End every engine."""
        for engine in self.engines:
            engine.stop()
