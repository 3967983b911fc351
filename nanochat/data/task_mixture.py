"""A mixture of tasks: which example of which task comes at a place of an endless order.

In: tasks, each with its share of a pass. Out: for every place the task's name and the index in it. One pass holds each
task's examples as often as its epochs say, or as many as its weight gives it: phase by phase, and those of one phase
shuffled together, in an order that each pass has of its own. Passes follow one another without end, their examples
numbered on and on. Everything follows from the shares and the seed, so nothing but a place needs saving. Tasks in one
phase are what the public nanochat calls a TaskMixture, phases its TaskSequence. Not here: rendering, packing.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from math import inf

import attrs
import numpy as np
from numpy.typing import NDArray

from nanochat.data.task import Task
from nanochat.errors import NanochatError, wrong_input


@attrs.frozen(kw_only=True, eq=False)
class TaskShare:
    """What of a task is in one pass of a mixture."""

    task: Task
    epochs: int = 1
    """How often each example occurs; with a weight, at most."""
    max_examples: int | None = None
    """Only so many, the first ones."""
    weight: float | None = None
    """Its part of a pass's examples, relative to the other weights of its phase."""
    phase: int = 0
    """Tasks of a lower phase come before those of a higher one."""
    bad_conversations: str = "error"
    """What is done about an example that is no conversation: "error", or "skip"."""

    @property
    def size(self) -> int:
        """Examples, each counted once."""
        return len(self.task) if self.max_examples is None else min(len(self.task), self.max_examples)


class TaskMixture:
    """The examples of one pass after another."""

    def __init__(self, tasks: Mapping[str, TaskShare], seed: int) -> None:
        """InputError E302 where there is no example."""
        # By name: the order in which a recipe lists its tasks is no part of a stage's identity.
        self.names: Sequence[str] = sorted(tasks, key=lambda name: (tasks[name].phase, name))
        self.shares: Mapping[str, TaskShare] = {name: tasks[name] for name in self.names}
        self._sizes = [share.size for share in self.shares.values()]
        counts = _counts(self.shares)
        self.counts: Mapping[str, int] = dict(zip(self.names, counts, strict=True))
        """Examples of each task in one pass."""
        self._stops = list(accumulate(counts))
        last_of_phase = {self.shares[name].phase: stop for name, stop in zip(self.names, self._stops, strict=True)}
        self._phase_stops = sorted(set(last_of_phase.values()) - {0})
        self._seed = seed
        self.distinct = sum(size for size, count in zip(self._sizes, counts, strict=True) if count)
        """Examples that come in some pass, each counted once."""
        if not self.distinct:
            raise self.empty("there is no example in any task of the mixture")
        self._order = lru_cache(maxsize=4)(self._shuffled)  # the lanes are within a pass or two of each other

    def __len__(self) -> int:
        return self._stops[-1]

    def place(self, ordinal: int) -> tuple[str, int]:
        """The task's name and the index in it of example `ordinal`, counted through all passes."""
        number, index = divmod(ordinal, len(self))
        copy = int(self._order(number)[index])
        task = bisect_right(self._stops, copy)
        start = self._stops[task - 1] if task else 0
        # A weight may take a part of the examples: the next pass goes on behind it.
        before = number * (self._stops[task] - start) if self.shares[self.names[task]].weight is not None else 0
        return self.names[task], (before + copy - start) % self._sizes[task]

    def segment(self, ordinal: int) -> int:
        """The number of the phase that example `ordinal` is in, counted through all passes."""
        number, index = divmod(ordinal, len(self))
        return number * len(self._phase_stops) + bisect_right(self._phase_stops, index)

    def empty(self, reason: str) -> NanochatError:
        """The error for a mixture of which nothing can be learnt."""
        tasks = ", ".join(f"`{name}` ({size})" for name, size in zip(self.names, self._sizes, strict=True)) or "none"
        return wrong_input(
            "E302",
            f"nothing to train on: {reason}",
            help=f"tasks with their examples: {tasks}; check their files, their splits and `max_examples`",
        )

    def _shuffled(self, number: int) -> NDArray[np.int64]:
        # RandomState, not default_rng: NumPy promises that its numbers never change (NEP 19), so an order is for good.
        generator = np.random.RandomState([self._seed & 0xFFFFFFFF, self._seed >> 32 & 0xFFFFFFFF, number])
        starts = [0, *self._phase_stops]
        return np.concatenate([start + generator.permutation(stop - start) for start, stop in pairwise(starts)])


def _counts(shares: Mapping[str, TaskShare]) -> list[int]:
    """Examples of each task in one pass: size × epochs; with weights, as many as the scarcest of its phase allows."""
    room: dict[int, float] = defaultdict(lambda: inf)  # phase → examples for a weight of 1
    for share in shares.values():
        if share.weight and share.size:
            room[share.phase] = min(room[share.phase], share.size * share.epochs / share.weight)
    return [
        # Rounded, since 3 · (10 / 3) may come out below 10; never above what the task has.
        share.size * share.epochs if share.weight is None else _weighted(share, room[share.phase])
        for share in shares.values()
    ]


def _weighted(share: TaskShare, room: float) -> int:
    assert share.weight is not None
    return min(max(1, round(share.weight * room)), share.size * share.epochs) if share.weight and share.size else 0
