"""A .safetensors file as it is written: byte for byte what safetensors' own `save_file` makes.

In: named tensors. Out: a file on the disk, its size and digest. A writer of our own, since a checkpoint is written
beside the training: pieces are hashed as they are written, Python's lock is free meanwhile, a full disk is an OSError,
and others may read the file (that of `save_file` has mode 0600). Not here: reading, which safetensors does.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from nanochat.durable import write_synced

_TYPES = {
    torch.uint64: "U64", torch.int64: "I64", torch.float64: "F64",
    torch.float32: "F32", torch.uint32: "U32", torch.int32: "I32",
    torch.bfloat16: "BF16", torch.float16: "F16", torch.uint16: "U16", torch.int16: "I16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
"""In the order of safetensors: the widest first, so that each tensor lies at a multiple of its own width."""
_METADATA = {"__metadata__": {"format": "pt"}}
"""What Hugging Face's readers ask for."""


def write_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> tuple[int, str]:
    """Write tensors; returns the file's bytes and its sha256. OSError where there is no room, with the path."""
    return write_synced(path, _parts(tensors))


def _parts(tensors: Mapping[str, torch.Tensor]) -> Iterator[bytes | memoryview]:
    types = [*_TYPES]
    ordered = sorted(tensors.items(), key=lambda item: (types.index(item[1].dtype), item[0]))
    header: dict[str, object] = dict(_METADATA)
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for _, tensor in ordered:
        yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
