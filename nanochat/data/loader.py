"""What the loaders of pretraining and finetuning have in common: batches, lanes in turn, and a state to go on from.

The rows of training are numbered 0, 1, 2, … through the whole run. Row g is made by lane g mod V, which makes its rows
in order and knows of no other lane; rank k of W (W divides V) makes the rows g with g mod W = k. So the rows of a
step, total rows R in number, are rows sR … (s+1)R − 1 whatever W is. A state names cursors and buffers by
lane number and is written between steps, so the states of all ranks together serve any W that divides V.
Not here: where rows come from (the loaders), files (training's checkpoints write a `LoaderState`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, Self

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from nanochat.data.packing import Document
from nanochat.errors import NanochatError, wrong_input

IGNORED = -1
"""The target where there is no loss."""


@attrs.frozen(eq=False)
class Batch:
    """Rows of a forward pass. A kind of its own adds tensors with a number, or several, for each row."""

    inputs: torch.Tensor  # (B, T) int64
    targets: torch.Tensor  # (B, T) int64, IGNORED where there is no loss
    documents: torch.Tensor | None = None
    """(B, T) int32: the number of each token's document in its row, for a model that attends within documents."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """What it holds, by name."""
        return {name: tensor for name, tensor in attrs.asdict(self, recurse=False).items() if tensor is not None}

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        """The same with each tensor changed."""
        return attrs.evolve(self, **{name: change(tensor) for name, tensor in self.tensors().items()})

    def pinned(self) -> Self:
        """The same in pinned memory, from which a GPU copies while the process goes on."""
        return self.map(torch.Tensor.pin_memory)

    def split(self, rows: int) -> list[Self]:
        """Its rows in pieces of at most `rows`."""
        starts = range(0, len(self.inputs), rows)
        return [self.map(lambda tensor, start=start: tensor[start : start + rows]) for start in starts]  # type: ignore[misc]


@attrs.frozen(kw_only=True, eq=False)
class LoaderState:
    """Where a loader stands, for the lanes of one rank or of several."""

    cursors: dict[str, Any]
    """JSON: {"rows": rows made by all ranks, "lane_count": V, "lanes": {lane number: the lane's own cursor}}."""
    buffers: dict[str, NDArray[Any]]
    """"LANE.ids" (uint32) and what belongs to them: the documents that a lane has taken and not yet used."""


@attrs.frozen(kw_only=True, eq=False)
class Snapshot:
    """Where a loader stands, as cheaply as it can be noted: a batch carries one, and few are ever written down."""

    rows: int
    lane_count: int
    lanes: Mapping[int, tuple[dict[str, Any], Iterable[Document]]]
    """Lane number → its cursor, and the documents it holds."""
    counts: Mapping[str, int]
    position: Mapping[str, int]
    progress: float

    def state(self) -> LoaderState:
        """Everything that the following batches depend on."""
        buffers: dict[str, NDArray[Any]] = {}
        for number, (_, held) in self.lanes.items():
            buffers.update({f"{number}.{name}": array for name, array in arrays_of(list(held)).items()})
        cursors = {str(number): cursor for number, (cursor, _) in self.lanes.items()}
        return LoaderState(
            cursors={"rows": self.rows, "lane_count": self.lane_count, "lanes": cursors}, buffers=buffers
        )


class Lane(Protocol):
    """One of the V orders of data. It depends on nothing but its own past."""

    def row(self) -> list[Document]:
        """The pieces of its next row."""

    def cursor(self) -> dict[str, Any]:
        """Where it reads on, and what it counts: JSON-able."""

    def held(self) -> Iterable[Document]:
        """The documents it has taken and not yet used, in order of arrival, whatever it takes and uses later."""

    def resume(self, cursor: Mapping[str, Any], held: Iterable[Document]) -> None:
        """Go on from a saved cursor and the documents held then."""


class Turns:
    """Which lane makes each of this rank's next rows."""

    def __init__(self, lanes: int, rank: int, world_size: int) -> None:
        assert 0 <= rank < world_size
        if lanes < 1 or lanes % world_size:
            valid = [str(size) for size in range(1, lanes + 1) if lanes % size == 0]
            raise wrong_input(
                "E115",
                f"the data has {lanes} lanes, which {world_size} processes cannot share equally",
                help=f"start {' or '.join(valid)} processes, or set the stage's `lanes` to a multiple of {world_size}",
            )
        self.lanes, self.rank, self.world_size = lanes, rank, world_size
        self.rows = 0
        """Rows made by all ranks together."""

    @property
    def own(self) -> list[int]:
        """The lanes of this rank."""
        return list(range(self.rank, self.lanes, self.world_size))

    def take(self, rows: int) -> list[int]:
        """The lanes of this rank's next rows, in order."""
        first = self.rows + (self.rank - self.rows) % self.world_size
        self.rows += rows * self.world_size
        return [(first + turn * self.world_size) % self.lanes for turn in range(rows)]


class Loader:
    """Batches from the lanes of one rank. Its two kinds differ in their lanes."""

    def __init__(
        self,
        turns: Turns,
        lanes: Mapping[int, Lane],
        *,
        rows: int,
        sequence_len: int,
        pad: int,
        document_mask: bool,
    ) -> None:
        """`rows`: this rank's B; `pad`: the id of what is no document; `document_mask`: batches number documents."""
        assert rows > 0
        assert sequence_len > 0
        self._document_mask = document_mask
        self._turns = turns
        self._lanes = lanes
        self._rows, self._sequence_len, self._pad = rows, sequence_len, pad

    def next_batch(self) -> Batch:
        """The next (B, T) inputs and targets of this rank."""
        rows = [self._lanes[lane].row() for lane in self._turns.take(self._rows)]
        batch = batch_of(rows, self._sequence_len, self._pad)
        if not self._document_mask:
            return batch
        return attrs.evolve(batch, documents=documents_in(rows, self._sequence_len))

    @property
    def progress(self) -> float:
        """The share of the first pass that went into batches, where a pass is what a run is measured by."""
        return 0.0

    def counts(self) -> dict[str, int]:
        """What a run's record tells of its data: passes, and what was passed over."""
        raise NotImplementedError

    def position(self) -> dict[str, int]:
        """How far its furthest lane has read, for a line of metrics: epochs, shards, documents."""
        raise NotImplementedError

    def snapshot(self) -> Snapshot:
        """Where it stands; later batches do not change it."""
        return Snapshot(
            rows=self._turns.rows,
            lane_count=self._turns.lanes,
            lanes={number: (lane.cursor(), lane.held()) for number, lane in self._lanes.items()},
            counts=self.counts(),
            position=self.position(),
            progress=self.progress,
        )

    def load_state(self, state: LoaderState) -> None:
        """Go on where `state` was made, at any world size. It may hold more lanes than this rank's own."""
        if state.cursors.get("lane_count") != self._turns.lanes:
            found = state.cursors.get("lane_count")
            raise _unfit_state(f"it was made with {found} lanes, and there are {self._turns.lanes}")
        for number, lane in self._lanes.items():
            try:
                cursor = state.cursors["lanes"][str(number)]
                prefix = f"{number}."
                arrays = {name.removeprefix(prefix): a for name, a in state.buffers.items() if name.startswith(prefix)}
                lane.resume(cursor, documents_of(arrays))
            except KeyError as error:
                raise _unfit_state(f"lane {number} lacks {error}") from error
        self._turns.rows = int(state.cursors["rows"])


def joined(states: Iterable[LoaderState]) -> LoaderState:
    """The states that all ranks made at one step, as one."""
    first, *others = states
    lanes, buffers = dict(first.cursors["lanes"]), dict(first.buffers)
    for state in others:
        if state.cursors["rows"] != first.cursors["rows"]:
            raise _unfit_state("its ranks were saved at different steps")
        lanes.update(state.cursors["lanes"])
        buffers.update(state.buffers)
    return LoaderState(cursors={**first.cursors, "lanes": lanes}, buffers=buffers)


def batch_of(rows: Sequence[Sequence[Document]], sequence_len: int, pad: int) -> Batch:
    """Rows of pieces as tensors: inputs without each row's last id, targets without its first."""
    # NumPy to the end: a loader's thread that called torch would get a pool of threads for it.
    ids = np.full((len(rows), sequence_len + 1), pad, dtype=np.int64)  # (B, T+1)
    targets = np.full((len(rows), sequence_len + 1), IGNORED, dtype=np.int64)
    for number, pieces in enumerate(rows):
        start = 0
        for piece in pieces:
            stop = start + len(piece.ids)
            ids[number, start:stop] = piece.ids
            learnt = slice(None) if piece.mask is None else piece.mask
            targets[number, start:stop][learnt] = piece.ids[learnt]
            start = stop
    inputs, targets = np.ascontiguousarray(ids[:, :-1]), np.ascontiguousarray(targets[:, 1:])  # (B, T)
    return Batch(torch.from_numpy(inputs), torch.from_numpy(targets))


def documents_in(rows: Sequence[Sequence[Document]], sequence_len: int) -> torch.Tensor:
    """Which piece of its row each input belongs to, from 0 on, (B, T) int32; padding counts as one more."""
    numbers = np.empty((len(rows), sequence_len + 1), dtype=np.int32)
    for number, pieces in enumerate(rows):
        lengths = [len(piece.ids) for piece in pieces]
        lengths.append(sequence_len + 1 - sum(lengths))
        numbers[number] = np.repeat(np.arange(len(lengths)), lengths)
    return torch.from_numpy(np.ascontiguousarray(numbers[:, :-1]))


def arrays_of(documents: Sequence[Document]) -> dict[str, NDArray[Any]]:
    """Documents as a few arrays, for safetensors."""
    arrays: dict[str, NDArray[Any]] = {
        "ids": np.concatenate([np.empty(0, np.uint32), *(document.ids for document in documents)]),
        "offsets": np.cumsum([0, *(len(document.ids) for document in documents)], dtype=np.int64),
        "lengths": np.array([document.length for document in documents], dtype=np.int64),
        "sources": np.array([document.source for document in documents], dtype=np.int64),
    }
    masks = [document.mask for document in documents if document.mask is not None]
    if masks:
        arrays["mask"] = np.concatenate(masks)
    return arrays


def documents_of(arrays: Mapping[str, NDArray[Any]]) -> list[Document]:
    """The documents that `arrays_of` was given."""
    ids, offsets, mask = arrays["ids"], arrays["offsets"], arrays.get("mask")
    return [
        Document(ids[start:stop], None if mask is None else mask[start:stop], source=int(source), length=int(length))
        for start, stop, source, length in zip(
            offsets[:-1], offsets[1:], arrays["sources"], arrays["lengths"], strict=True
        )
    ]


def _unfit_state(reason: str) -> NanochatError:
    return wrong_input(
        "E406",
        f"the loader's state does not fit this stage: {reason}",
        help="go on from another checkpoint, or begin the stage anew with --fresh STAGE",
    )
