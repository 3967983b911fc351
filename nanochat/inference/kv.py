"""Keys and values of past ids: static slots, and the view of them that one forward pass gets.

In: the model's shape, how many slots of how many positions. Out: views that fulfil the model's `CacheView`. Which
request owns a slot, and how much of it counts, is the scheduler's business: a slot holds what was last written.
"""

from collections.abc import Sequence

import psutil
import torch
from torch import Tensor

from nanochat.errors import stage_failure
from nanochat.inference.transfer import on_device
from nanochat.model.attention import additive, attend
from nanochat.model.gpt import GPT
from nanochat.model.gpt_config import GPTConfig
from nanochat.quantity import size
from nanochat.runtime import Runtime

MEMORY_SHARE = 0.8
"""Of the free memory that a cache may take."""
GATHERED = 3
"""What a copy of a position costs, in readings of it: it is read, written and read again. 2 was no faster on a CPU."""


def free_memory(device: torch.device) -> int:
    """Bytes that are free where the device computes."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def slots_in_memory(config: GPTConfig, runtime: Runtime) -> int:
    """How many slots of a whole context fit into the free memory. StageError E502 where not one does."""
    free = free_memory(runtime.device)
    positions = config.depth * (config.sequence_len + 1) * config.n_kv_head * config.head_dim
    slot = 2 * positions * runtime.dtype.itemsize
    if MEMORY_SHARE * free < slot:
        raise stage_failure(
            "E502",
            f"one conversation's keys and values take {size(slot)} of memory, and {size(free)} are free",
            help="use a machine with more memory, or a smaller model",
        )
    return int(MEMORY_SHARE * free) // slot


class KVCache:
    """Keys and values, for each layer (slots, Hkv, positions + 1, D), in the model's dtype.

    A head's positions lie side by side: attention, which goes over one head after another, takes 0.85 of the time. The
    one beyond the last takes what nobody will read, of rows that are computed only to fill a batch.
    """

    def __init__(self, model: GPT, *, slots: int, positions: int, device: torch.device) -> None:
        config = model.config
        self.slots, self.positions = slots, positions
        self.device, self.dtype = device, model.dtype
        shape = (slots, config.n_kv_head, positions + 1, config.head_dim)
        # Zeros, for a masked position still enters the product, and 0 · NaN of unwritten memory would be NaN.
        self.k, self.v = (
            [torch.zeros(shape, dtype=model.dtype, device=device) for _ in range(config.depth)] for _ in "kv"
        )

    def copy(self, source: int, target: int, length: int) -> None:
        """The first `length` positions of one slot become those of another."""
        for held in (*self.k, *self.v):
            held[target, :, :length] = held[source, :, :length]

    def view(self, slots: Sequence[int], starts: Sequence[int], previous_ids: Sequence[int], count: int) -> "View":
        """For `count` further ids in each of `slots` (ascending), whose first `starts` positions are written."""
        return View(self, slots, starts, previous_ids, count)


class View:
    """One forward pass over some slots: B rows, T further ids each."""

    def __init__(
        self, cache: KVCache, slots: Sequence[int], starts: Sequence[int], previous_ids: Sequence[int], count: int
    ) -> None:
        device = cache.device
        self.cache = cache
        first, span = slots[0], slots[-1] - slots[0] + 1
        # Slots that stand side by side are read where they lie, others with those between them or, if these are many,
        # from a copy.
        in_place = span == len(slots) or (count == 1 and span <= GATHERED * len(slots))
        self.rows = slice(first, first + span) if in_place else on_device(slots, device)
        self.span = span
        self.among: Tensor | None = None
        """Where our rows are among those that are read, if others are too."""
        if in_place and span > len(slots):
            self.among = on_device([slot - first for slot in slots], device)
        self.slots = on_device(slots, device)[:, None]  # (B, 1)
        self.positions = on_device(starts, device)[:, None] + torch.arange(count, device=device)  # (B, T)
        self.previous_ids = on_device(previous_ids, device)  # (B,)
        self.first, self.end = min(starts), max(starts) + count
        self.together = self.first == max(starts)  # rows of different lengths cost a scatter and a mask
        self.masks: dict[int, tuple[int, Tensor | None]] = {}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
        """Store k, v (B, T, Hkv, D); `attend` of q (B, T, H, D) to all that the window reaches, (B, T, H, D)."""
        begin, mask = self._mask(window)
        seen = []
        for held, new in ((self.cache.k[layer], k), (self.cache.v[layer], v)):
            if self.together and self.among is None:
                held[self.rows, :, self.first : self.end] = new.transpose(1, 2)
            else:
                held[self.slots, :, self.positions] = new
            seen.append(held[self.rows, :, begin : self.end].transpose(1, 2))
        if self.among is None:
            return attend(q, seen[0], seen[1], mask)
        return attend(self._spread(q), seen[0], seen[1], mask)[self.among]

    def _spread(self, rows: Tensor) -> Tensor:
        """(B, …) → (span, …): what stands between our rows asks for nothing that matters."""
        assert self.among is not None
        return rows.new_zeros(self.span, *rows.shape[1:]).index_copy_(0, self.among, rows)

    def _mask(self, window: int) -> tuple[int, Tensor | None]:
        """The first position that any row still sees through `window`, and who sees what from there on."""
        if window not in self.masks:
            begin = max(0, self.first - window)
            self.masks[window] = begin, None if self._plain(window) else self._additive(begin, window)
        return self.masks[window]

    def _plain(self, window: int) -> bool:
        """Whether all rows feed one id each at the same place, or begin, and the window cuts nothing off."""
        count = self.positions.size(1)
        return self.together and (count == 1 or (self.first == 0 and count <= window + 1))

    def _additive(self, begin: int, window: int) -> Tensor:
        """(B or span, 1, T, S)"""
        keys = torch.arange(begin, self.end, device=self.positions.device)
        distance = self.positions[:, None, :, None] - keys
        mask = additive((distance >= 0) & (distance <= window), self.cache.dtype)
        return mask if self.among is None else self._spread(mask)
