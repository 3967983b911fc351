"""What one rank writes into a checkpoint, as it stood after a step, in memory of its own while the training goes on.

In: tensors by file and name, plain values by file. Out: the same, copied and turned into text. The copies' memory is
taken once and used again: on CUDA it is pinned, so that the device copies at the bus's speed; elsewhere what costs is
the first touch of a page. Not here: writing.
"""

import json
from collections.abc import Mapping
from typing import Any

import attrs
import torch

from nanochat.text.tokenizer import Tokenizer

Tensors = Mapping[str, Mapping[str, torch.Tensor]]
"""File without its suffix → name → tensor."""


@attrs.frozen(kw_only=True, eq=False)
class Snapshot:
    """One rank's part of a checkpoint."""

    tensors: Tensors
    texts: Mapping[str, str]
    """File without its suffix → JSON."""
    metadata: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    """Of tensor files' headers."""
    tokenizer: Tokenizer | None
    """The main rank's."""

    @property
    def n_bytes(self) -> int:
        """What it takes on the disk, headers and tokenizer apart."""
        held = sum(tensor.nbytes for its in self.tensors.values() for tensor in its.values())
        return held + sum(len(text) for text in self.texts.values())


def json_text(value: Any) -> str:
    """The JSON of a file: as it is now, whatever becomes of the value."""
    return json.dumps(value, indent=1, sort_keys=True)


class HostCopies:
    """Memory of the host that snapshots are copied into, one after another."""

    def __init__(self, device: torch.device) -> None:
        self._from_cuda = device.type == "cuda"
        self._held: dict[tuple[str, str], torch.Tensor] = {}

    def of(self, tensors: Tensors) -> Tensors:
        """Copies, to be used until the next call. Those whose shape is as before lie where the last ones did."""
        kept: dict[tuple[str, str], torch.Tensor] = {}
        for file, members in tensors.items():
            for name, tensor in members.items():
                place = self._held.pop((file, name), None)
                if place is None or place.shape != tensor.shape or place.dtype != tensor.dtype:
                    place = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=self._from_cuda)
                kept[file, name] = place.copy_(tensor.detach(), non_blocking=self._from_cuda)
        if self._from_cuda:
            torch.cuda.current_stream().synchronize()
        self._held = kept
        return {file: {name: kept[file, name] for name in members} for file, members in tensors.items()}
