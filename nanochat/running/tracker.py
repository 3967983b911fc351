"""Who is told the figures of a run beside its own files: trackers of the recipe, observers of the installed plugins.

In: figures. Out: calls, each isolated: a fault is logged once under the plugin's name and never changes a result, and a
tracker that stands still is not waited for beyond PATIENCE.
"""

import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

from nanochat.config import Component
from nanochat.registry import Registry
from nanochat.running.tracker_thread import TrackerThread

PATIENCE = 60.0
"""Seconds that all trackers together have to end, once their stage has: for what they still have to send."""
LOGGER = "nanochat.running.tracker"


class Tracker(Protocol):
    """The contract of a tracker plugin; its builder is called as `build(config)`, on rank 0 of a stage's workers.

    Everything is called in one thread, which is not the one that trains.
    """

    def start(self, record: Mapping[str, Any]) -> None:
        """A stage begins or goes on. `run`, `recipe`, `stage`, `use`: names. `folder`: the stage's own, whose files
        are there again where the stage goes on. `step`: the one it goes on after, 0 from the beginning. `settings`:
        the stage's, as flat keys.
        """

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures of a step."""

    def finish(self, record: Mapping[str, Any]) -> None:
        """The stage has ended: `state` is done, stopped or failed; `figures` where it is done."""


class Audience:
    """The trackers and the `on_step` observers of one stage. patience: seconds, see PATIENCE."""

    def __init__(
        self, stage: str, trackers: Mapping[str, Component], registry: Registry, *, patience: float = PATIENCE
    ) -> None:
        self._stage, self._registry, self._patience = stage, registry, patience
        self._complained: set[str] = set()
        self._trackers = [
            TrackerThread(partial(_build, component, registry), partial(_complain, name))
            for name, component in trackers.items()
        ]

    def start(self, record: Mapping[str, Any]) -> None:
        """Tell the trackers that the stage begins."""
        for tracker in self._trackers:
            tracker.tell("start", record)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Tell everybody the figures of a step."""
        for tracker in self._trackers:
            tracker.tell("log", step, dict(figures))
        for plugin, outcome in self._registry.observe("on_step", stage=self._stage, step=step, figures=figures):
            if isinstance(outcome, BaseException) and plugin not in self._complained:
                self._complained.add(plugin)
                said = "%s: %s (said once)"
                logging.getLogger(plugin).warning(said, type(outcome).__name__, outcome, exc_info=outcome)

    def finish(self, record: Mapping[str, Any]) -> None:
        """Tell the trackers that the stage has ended, and wait until they have, within bounds."""
        deadline = time.monotonic() + self._patience
        for tracker in self._trackers:
            tracker.end(record)
        for tracker in self._trackers:
            tracker.wait(deadline)


def _build(component: Component, registry: Registry) -> Tracker:
    made: Tracker = registry.builder("tracker", component.use)(component.config)
    return made


def _complain(name: str, said: str, fault: BaseException | None) -> None:
    logging.getLogger(LOGGER).warning("tracker `%s`: %s", name, said, exc_info=fault)
