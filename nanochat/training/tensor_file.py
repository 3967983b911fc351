"""A .safetensors file as it is written: byte for byte what safetensors' own `save_file` makes.

In: named tensors, whole or in pieces that lie one after another. Out: a file on the disk, its size and digest. A writer
of our own, since a checkpoint is written beside the training: pieces are hashed as they are written, Python's lock is
free meanwhile, a full disk is an OSError, and others may read the file (that of `save_file` has mode 0600). Not here:
reading, which safetensors does.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from nanochat.durable import write_synced

TYPES = {
    torch.uint64: "U64", torch.int64: "I64", torch.float64: "F64",
    torch.float32: "F32", torch.uint32: "U32", torch.int32: "I32",
    torch.bfloat16: "BF16", torch.float16: "F16", torch.uint16: "U16", torch.int16: "I16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
"""In the order of safetensors: the widest first, so that each tensor lies at a multiple of its own width."""
_FORMAT = {"format": "pt"}
"""What Hugging Face's readers ask for."""
Layout = Mapping[str, tuple[torch.dtype, Sequence[int]]]
"""Tensor → its dtype and shape."""


def write_tensors(
    tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Write tensors; returns the file's bytes and its sha256. OSError where there is no room, with the path.

    metadata: of the file's header, beside its format.
    """
    layout = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    return write_pieces(layout, lambda name: [tensors[name]], path, metadata)


def write_pieces(
    layout: Layout,
    pieces: Callable[[str], Iterable[torch.Tensor]],
    path: Path,
    metadata: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """As `write_tensors`; each tensor comes in pieces, asked for when its turn is."""
    return write_synced(path, _parts(layout, pieces, {**_FORMAT, **(metadata or {})}))


def _parts(
    layout: Layout, pieces: Callable[[str], Iterable[torch.Tensor]], metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    types = [*TYPES]
    ordered = sorted(layout, key=lambda name: (types.index(layout[name][0]), name))
    header: dict[str, object] = {"__metadata__": metadata}
    end = 0
    for name in ordered:
        dtype, shape = layout[name]
        start, end = end, end + torch.Size(shape).numel() * dtype.itemsize
        header[name] = {"dtype": TYPES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for name in ordered:
        for piece in pieces(name):
            yield piece.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
