"""Batches for finetuning: a mixture of tasks' conversations, shuffled together, packed with padding.

In: tasks with their shares of a pass, a tokenizer, the shape of a batch. Out: (B, T) batches and an exact state. Of the
endless order of a TaskMixture, example i belongs to lane i mod V. In each lane, a phase is used up before the next
begins. Not here: which example comes when (`task_mixture.py`), scoring, rendering (text/conversation), devices.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import numpy as np

from nanochat.data.loader import Lane, Loader, Turns
from nanochat.data.packing import Document, FitBuffer, cut_length, padded_row
from nanochat.data.task_mixture import TaskMixture, TaskShare
from nanochat.errors import Diagnostic, InputError
from nanochat.text.conversation import render_conversation
from nanochat.text.special import ASSISTANT_END, USER_END
from nanochat.text.tokenizer import Tokenizer

FAULTS_SHOWN = 10
"""Bad conversations named at once."""


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
        Raises E115 where the processes cannot share the lanes equally, E302 where there is no example, E306 where a
        task knows of a bad one that is not to be skipped.
        """
        assert loss_on in ("assistant", "all"), loss_on
        turns = Turns(lanes, rank, world_size)
        self._mixture = TaskMixture(tasks, seed)
        _refuse_faults(tasks)
        room = sequence_len + 1  # one more than the inputs, so that each has its target
        self._conversations = _Conversations(self._mixture, tokenizer, room, learn_all=loss_on == "all")
        self._own = [_ConversationLane(number, lanes, self._conversations, room, buffer) for number in turns.own]
        made: dict[int, Lane] = dict(zip(turns.own, self._own, strict=True))
        super().__init__(
            turns, made, rows=rows, sequence_len=sequence_len, pad=tokenizer.bos_id, document_mask=document_mask
        )

    @property
    def progress(self) -> float:
        """The share of the first pass that this rank's lanes have put into batches; above 1 in later passes."""
        used = sum(lane.used() for lane in self._own)
        return used * self._turns.lanes / (len(self._mixture) * len(self._own))

    def counts(self) -> dict[str, int]:
        """Conversations cut to a row's length, and those passed over, by task; and the passes of the furthest lane.

        Conversations are counted when they are rendered, each time, by this process, since it started.
        """
        return {"passes": max(lane.passes() for lane in self._own), **self._conversations.counts}

    def position(self) -> dict[str, int]:
        """Whole passes, and conversations through all passes, of the furthest lane."""
        passes = max(lane.passes() for lane in self._own)
        return {"passes": passes, "conversations": max(lane.reached() for lane in self._own)}


def _refuse_faults(tasks: Mapping[str, TaskShare]) -> None:
    """InputError with what tasks know to be wrong with their examples, all at once and before any is trained on."""
    faults: list[Diagnostic] = []
    for share in tasks.values():
        if share.bad_conversations == "error":
            faults += getattr(share.task, "faults", tuple)()
    if faults:
        raise InputError(faults[:FAULTS_SHOWN])


class _Conversations:
    """Examples of the mixture as documents that fit a row."""

    def __init__(self, mixture: TaskMixture, tokenizer: Tokenizer, room: int, *, learn_all: bool) -> None:
        self._mixture = mixture
        self._tokenizer, self._room, self._learn_all = tokenizer, room, learn_all
        self._turn_ends = [tokenizer.special_id(token) for token in (USER_END, ASSISTANT_END)]
        self._useless: set[tuple[str, int]] = set()
        self.counts: Counter[str] = Counter()

    def passes(self, ordinal: int) -> int:
        """Whole passes before an example."""
        return ordinal // len(self._mixture)

    def segment(self, ordinal: int) -> int:
        """The number of the phase that an example is in, counted through all passes."""
        return self._mixture.segment(ordinal)

    def document(self, ordinal: int) -> Document | None:
        """The conversation at a place of the endless order; None where a row's length of it has nothing to learn."""
        name, index = self._mixture.place(ordinal)
        if (name, index) in self._useless:
            return None
        reason = "bad conversation"
        if (rendered := self._render(name, index)) is not None:
            document, reason = self._cut(name, rendered), "nothing to learn"
            # The first id of a row is no target.
            if document.mask is not None and document.mask[1:].any():
                return document
        self.counts[f"{name}.skipped.{reason}"] += 1
        self._useless.add((name, index))
        if len(self._useless) == self._mixture.distinct:
            raise self._mixture.empty(f"in no conversation is anything to learn within {self._room} tokens")
        return None

    def _render(self, name: str, index: int) -> Document | None:
        """The conversation whole; None where it is a bad one, which its task's share says to skip."""
        share = self._mixture.shares[name]
        try:
            rendered = render_conversation(share.task[index], self._tokenizer)
        except InputError as error:
            if share.bad_conversations == "skip":
                return None
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
