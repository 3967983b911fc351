"""A checkpoint's model: one file, or one for each process that held rows of it.

    model.safetensors        the whole
    model-RANK.safetensors   under `shard = "full"`, the rows that a rank held: each writes its own, and none gathers

The header of such a part says where its rows begin, as torch's distributed checkpoint (DCP) does: its
HuggingFaceStorageReader loads the parts, and its consolidate_safetensors_files joins them. Read are the rows that are
asked for, so that any number of processes, under any `shard`, takes up what any other number wrote.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors import safe_open
from torch import Tensor

from nanochat.training.manifest import broken, model_weights
from nanochat.training.tensor_file import TYPES, write_pieces

_DTYPES = {name: dtype for dtype, name in TYPES.items()}
_SHARDING = "DCP_SHARDING_INFO"


@attrs.frozen(kw_only=True)
class ModelPart:
    """What a rank writes of the model."""

    file: str
    """Without its suffix."""
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = attrs.field(factory=dict)
    """Of the file's header."""


def part_of_rank(rank: int, rows: Mapping[str, tuple[int, Tensor]]) -> ModelPart:
    """The part of a rank that holds rows. rows: parameter → the first one's place in the whole, and they themselves."""
    offsets = {name: {"saved_offsets": [start, *[0] * (held.dim() - 1)]} for name, (start, held) in rows.items()}
    return ModelPart(
        file=f"model-{rank}",
        tensors={name: held for name, (_, held) in rows.items()},
        metadata={_SHARDING: json.dumps(offsets), "DCP_VERSION": "1.0"},
    )


@attrs.frozen
class _Piece:
    """Rows [start, stop) of a tensor, in an open file."""

    start: int
    stop: int
    file: Any
    name: str

    def rows(self, start: int, stop: int) -> Tensor:
        read: Tensor = self.file.get_slice(self.name)[start - self.start : stop - self.start]
        return read

    def all(self) -> Tensor:
        read: Tensor = self.file.get_tensor(self.name)
        return read


class SavedModel:
    """The model of a checkpoint whose files are known to be whole (`manifest.verify_model`)."""

    def __init__(
        self, checkpoint: Path, device: torch.device | str = "cpu", ranks: Collection[int] | None = None
    ) -> None:
        """device: where what is read goes. ranks: whose parts are opened, where others are not wanted."""
        self.checkpoint = checkpoint
        self._pieces: dict[str, list[_Piece]] = {}
        self._dtypes: dict[str, torch.dtype] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        files = model_weights(checkpoint)
        if ranks is not None and len(files) > 1:
            files = [f"model-{rank}.safetensors" for rank in ranks]
        for name in files:
            self._open(safe_open(checkpoint / name, framework="pt", device=str(device)))
        for pieces in self._pieces.values():
            pieces.sort(key=lambda piece: piece.start)

    def _open(self, file: Any) -> None:
        offsets = json.loads((file.metadata() or {}).get(_SHARDING, "{}"))
        for name in file.keys():  # noqa: SIM118, it is no dictionary
            saved = file.get_slice(name)
            shape = tuple(saved.get_shape())
            start = offsets[name]["saved_offsets"][0] if shape and name in offsets else 0
            stop = start + (shape[0] if shape else 1)
            self._pieces.setdefault(name, []).append(_Piece(start, stop, file, name))
            self._dtypes[name] = _DTYPES[saved.get_dtype()]
            rows = max(stop, self.shapes[name][0] if shape and name in self.shapes else 0)
            self.shapes[name] = (rows, *shape[1:]) if shape else ()

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Rows [start, stop) of a tensor; a single number has one. StageError E406 where they are not all there."""
        if not self.shapes[name]:
            return self._pieces[name][0].all()
        read = [
            piece.rows(max(start, piece.start), min(stop, piece.stop))
            for piece in self._pieces[name]
            if piece.start < stop and start < piece.stop
        ]
        if sum(len(each) for each in read) != stop - start:
            raise broken(self.checkpoint, f"rows {start} to {stop} of `{name}` are not all in its files")
        return _joined(read)

    def whole(self) -> dict[str, Tensor]:
        """All of it. StageError E406 where rows are missing."""
        return {name: _joined([*self._in_order(name)]) for name in self._pieces}

    def write(self, path: Path) -> None:
        """All of it as one file, which other programs read; at no time is more than a piece in memory."""
        layout = {name: (dtype, self.shapes[name]) for name, dtype in self._dtypes.items()}
        write_pieces(layout, self._in_order, path)

    def _in_order(self, name: str) -> Iterator[Tensor]:
        """A tensor's pieces, which are to follow one another without a gap."""
        end = 0
        for piece in self._pieces[name]:
            if piece.start != end:
                raise broken(self.checkpoint, f"rows {end} to {piece.start} of `{name}` are in none of its files")
            end = piece.stop
            yield piece.all()


def _joined(pieces: Sequence[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat([*pieces])
