"""Who is told the figures of a run beside its own files: trackers of the recipe, observers of the installed plugins.

In: figures. Out: calls, each isolated: a fault is logged once under the plugin's name and never changes a result.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from nanochat.config import Component
from nanochat.registry import Registry


class Tracker(Protocol):
    """The contract of a tracker plugin; its builder is called as `build(config)`, on rank 0 of a stage's workers."""

    def start(self, record: Mapping[str, Any]) -> None:
        """A stage begins or goes on: `run`, `stage`, `folder`."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures of a step."""

    def finish(self, record: Mapping[str, Any]) -> None:
        """The stage has ended: `state` is done, stopped or failed; `figures` where it is done."""


class Audience:
    """The trackers and the `on_step` observers of one stage."""

    def __init__(self, stage: str, trackers: Mapping[str, Component], registry: Registry) -> None:
        self._stage, self._registry = stage, registry
        self._complained: set[str] = set()
        self._trackers: dict[str, Tracker] = {}
        for name, component in trackers.items():
            made = self._isolated(name, partial(_build, component, registry))
            if made is not None:
                self._trackers[name] = made

    def start(self, record: Mapping[str, Any]) -> None:
        """Tell the trackers that the stage begins."""
        for name, tracker in self._trackers.items():
            self._isolated(name, partial(tracker.start, record))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Tell everybody the figures of a step."""
        for name, tracker in self._trackers.items():
            self._isolated(name, partial(tracker.log, step, dict(figures)))
        for plugin, outcome in self._registry.observe("on_step", stage=self._stage, step=step, figures=figures):
            if isinstance(outcome, BaseException):
                self._complain(plugin, outcome)

    def finish(self, record: Mapping[str, Any]) -> None:
        """Tell the trackers that the stage has ended."""
        for name, tracker in self._trackers.items():
            self._isolated(name, partial(tracker.finish, record))

    def _isolated(self, name: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as fault:
            self._complain(name, fault)
            return None

    def _complain(self, name: str, fault: BaseException) -> None:
        if name not in self._complained:
            self._complained.add(name)
            logging.getLogger(name).warning("%s: %s (said once)", type(fault).__name__, fault, exc_info=fault)


def _build(component: Component, registry: Registry) -> Tracker:
    made: Tracker = registry.builder("tracker", component.use)(component.config)
    return made
