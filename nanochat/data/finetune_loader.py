"""Batches for finetuning: a mixture of tasks' conversations, shuffled together, packed with padding.

In: tasks with epochs, a tokenizer, the shape of a batch. Out: (B, T) batches and an exact state. One pass holds each
task's examples as often as its epochs say: phase by phase, and those of one phase shuffled together, in an order that
each pass has of its own. Passes follow one another without end, their examples numbered on and on, and example i
belongs to lane i mod V. In each lane, a phase is used up before the next begins.
Not here: scoring, rendering (text/conversation), devices.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from nanochat.data.loader import Lane, Loader, Turns
from nanochat.data.packing import Document, FitBuffer, cut_length, padded_row
from nanochat.data.task import Task
from nanochat.errors import InputError, NanochatError, wrong_input
from nanochat.text.conversation import render_conversation
from nanochat.text.special import ASSISTANT_END, USER_END
from nanochat.text.tokenizer import Tokenizer


@attrs.frozen(kw_only=True, eq=False)
class TaskShare:
    """What of a task is in one pass of a mixture."""

    task: Task
    epochs: int = 1
    """How often each example occurs."""
    max_examples: int | None = None
    """Only so many, the first ones."""
    phase: int = 0
    """Tasks of a lower phase come before those of a higher one."""

    @property
    def size(self) -> int:
        """Examples, each counted once."""
        return len(self.task) if self.max_examples is None else min(len(self.task), self.max_examples)


class FinetuneLoader(Loader):
    """The rows of one rank."""

    def __init__(
        self,
        tasks: Mapping[str, TaskShare],
        tokenizer: Tokenizer,
        *,
        rows: int,
        sequence_len: int,
        loss_on: str,
        buffer: int,
        lanes: int,
        seed: int,
        document_mask: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """`rows`: this rank's B.

        `buffer`: conversations a lane chooses from.
        `loss_on`: "assistant" learns what the assistant writes, "all" every token.
        Raises E115 where the processes cannot share the lanes equally, E302 where there is no example.
        """
        assert loss_on in ("assistant", "all"), loss_on
        turns = Turns(lanes, rank, world_size)
        self._pass = Pass(tasks, seed)
        room = sequence_len + 1  # one more than the inputs, so that each has its target
        self._conversations = _Conversations(self._pass, tokenizer, room, learn_all=loss_on == "all")
        self._own = [_ConversationLane(number, lanes, self._conversations, room, buffer) for number in turns.own]
        made: dict[int, Lane] = dict(zip(turns.own, self._own, strict=True))
        super().__init__(
            turns, made, rows=rows, sequence_len=sequence_len, pad=tokenizer.bos_id, document_mask=document_mask
        )

    @property
    def progress(self) -> float:
        """The share of the first pass that this rank's lanes have put into batches; above 1 in later passes."""
        used = sum(lane.used() for lane in self._own)
        return used * self._turns.lanes / (len(self._pass) * len(self._own))

    def counts(self) -> dict[str, int]:
        """Conversations cut to a row's length, and those passed over, by task; and the passes of the furthest lane.

        Conversations are counted when they are rendered, each time, by this process, since it started.
        """
        return {"passes": max(lane.passes() for lane in self._own), **self._conversations.counts}

    def position(self) -> dict[str, int]:
        """Whole passes, and conversations through all passes, of the furthest lane."""
        passes = max(lane.passes() for lane in self._own)
        return {"passes": passes, "conversations": max(lane.reached() for lane in self._own)}


class Pass:
    """The examples of one pass after another: which example of which task comes at a place of the endless order."""

    def __init__(self, tasks: Mapping[str, TaskShare], seed: int) -> None:
        # By name: the order in which a recipe lists its tasks is no part of a stage's identity.
        self._names = sorted(tasks, key=lambda name: (tasks[name].phase, name))
        shares = [tasks[name] for name in self._names]
        self._tasks = {name: share.task for name, share in tasks.items()}
        self._sizes = [share.size for share in shares]
        self._stops = list(accumulate(share.size * share.epochs for share in shares))
        last_of_phase = {share.phase: stop for share, stop in zip(shares, self._stops, strict=True)}
        self._phase_stops = sorted(set(last_of_phase.values()) - {0})
        self._seed = seed
        self.distinct = sum(self._sizes)
        """Examples, each counted once."""
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
        return self._names[task], (copy - start) % self._sizes[task]

    def segment(self, ordinal: int) -> int:
        """The number of the phase that example `ordinal` is in, counted through all passes."""
        number, index = divmod(ordinal, len(self))
        return number * len(self._phase_stops) + bisect_right(self._phase_stops, index)

    def task(self, name: str) -> Task:
        return self._tasks[name]

    def empty(self, reason: str) -> NanochatError:
        tasks = ", ".join(f"`{name}` ({size})" for name, size in zip(self._names, self._sizes, strict=True)) or "none"
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


class _Conversations:
    """Examples of the pass as documents that fit a row."""

    def __init__(self, examples: Pass, tokenizer: Tokenizer, room: int, *, learn_all: bool) -> None:
        self._pass = examples
        self._tokenizer, self._room, self._learn_all = tokenizer, room, learn_all
        self._turn_ends = [tokenizer.special_id(token) for token in (USER_END, ASSISTANT_END)]
        self._useless: set[tuple[str, int]] = set()
        self.counts: Counter[str] = Counter()

    def passes(self, ordinal: int) -> int:
        """Whole passes before an example."""
        return ordinal // len(self._pass)

    def segment(self, ordinal: int) -> int:
        """The number of the phase that an example is in, counted through all passes."""
        return self._pass.segment(ordinal)

    def document(self, ordinal: int) -> Document | None:
        """The conversation at a place of the endless order; None where a row's length of it has nothing to learn."""
        name, index = self._pass.place(ordinal)
        if (name, index) in self._useless:
            return None
        document = self._cut(name, self._render(name, index))
        # The first id of a row is no target.
        if document.mask is not None and document.mask[1:].any():
            return document
        self.counts[f"{name}.skipped.nothing to learn"] += 1
        self._useless.add((name, index))
        if len(self._useless) == self._pass.distinct:
            raise self._pass.empty(f"in no conversation is anything to learn within {self._room} tokens")
        return None

    def _render(self, name: str, index: int) -> Document:
        try:
            rendered = render_conversation(self._pass.task(name)[index], self._tokenizer)
        except InputError as error:
            place = f"example {index} of the task `{name}`: "
            raise InputError([attrs.evolve(d, message=place + d.message) for d in error.diagnostics]) from error
        mask = np.ones(len(rendered.ids), np.bool_) if self._learn_all else np.array(rendered.mask, np.bool_)
        return Document(np.array(rendered.ids, np.uint32), mask)

    def _cut(self, name: str, document: Document) -> Document:
        assert document.mask is not None
        length = cut_length(document.ids, document.mask, self._room, self._turn_ends)
        if length == len(document.ids):
            return document
        self.counts[f"{name}.cut"] += 1
        return Document(document.ids[:length], document.mask[:length])


class _ConversationLane:
    """A lane whose rows are filled from a buffer of whole conversations."""

    def __init__(self, lane: int, lanes: int, conversations: _Conversations, room: int, size: int) -> None:
        self._lane, self._lanes, self._conversations = lane, lanes, conversations
        self._room, self._size = room, size
        self._next = lane  # the place of the next example in the endless order
        self._segment = 0  # of the documents in the buffer: phase after phase of pass after pass
        self._buffer = FitBuffer(room)

    def row(self) -> list[Document]:
        return padded_row(self._buffer, self._refill)

    def used(self) -> int:
        """Examples that went into rows, or were passed over."""
        return (self._next - self._lane) // self._lanes - len(self._buffer)

    def reached(self) -> int:
        """The place of its next example in the endless order."""
        return self._next

    def passes(self) -> int:
        """Whole passes that lie behind it."""
        return self._conversations.passes(self._next)

    def _refill(self) -> None:
        while len(self._buffer) < self._size:
            segment = self._conversations.segment(self._next)
            if len(self._buffer) and segment != self._segment:
                return
            document = self._conversations.document(self._next)
            self._next += self._lanes
            if document is not None:
                self._segment = segment
                self._buffer.add(document)

    def cursor(self) -> dict[str, Any]:
        return {"next": self._next, "segment": self._segment}

    def held(self) -> Iterable[Document]:
        return self._buffer.note()

    def resume(self, cursor: Mapping[str, Any], held: Iterable[Document]) -> None:
        self._next, self._segment = cursor["next"], cursor["segment"]
        self._buffer = FitBuffer(self._room)
        for document in held:
            self._buffer.add(document)
