"""Decoding steps as CUDA graphs: one launch of a model's operators, of which each is shorter than its own.

In: a model, its cache, rows that feed one id each. Out: their logits. A graph computes fixed shapes: row r is slot r,
of the first 1, 2, 4 … slots, and reads so many positions from the front. Each is captured when it is first needed, and
is believed if it says what the operators said one by one; where it does not, or cannot be captured, there are none.
"""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from nanochat.inference.kv import KVCache
from nanochat.inference.request import Request
from nanochat.inference.transfer import on_device
from nanochat.model.attention import additive
from nanochat.model.gpt import GPT
from nanochat.runtime import Runtime

Step = Callable[[], Tensor]
"""Computes on memory that stays where it is."""

LEAST_REACH = 256
"""Positions that the shortest graph reads; others read twice, four times … as many."""
GATHERED = 3
"""What a copy of a position costs, in readings of it: it is read, written and read again."""
TOLERANCE = 0.02
"""Of the largest logit, by which a graph may differ from its operators one by one."""


class FixedView:
    """One id in each of the first slots, fed as `fed` says whenever it is read: (4, B) of ids, positions, the places
    where their keys go, previous ids. Fulfils the model's `CacheView`.
    """

    def __init__(self, cache: KVCache, fed: Tensor, reach: int) -> None:
        self.cache, self.reach = cache, reach
        self.ids, self.positions, self.places = fed[0, :, None], fed[1, :, None], fed[2, :, None]  # (B, 1) each
        self.previous_ids = fed[3]
        self.rows = torch.arange(fed.size(1), device=fed.device)[:, None]
        self.near: dict[int, tuple[Tensor | None, Tensor]] = {}

    def extend(self, layer: int, k: Tensor, v: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Store k, v (B, 1, Hkv, D); all that the window may reach, (B, S, Hkv, D) each, and a mask for `attend`."""
        if window not in self.near:
            self.near[window] = self._near(window)
        near, mask = self.near[window]
        seen = []
        for held, new in ((self.cache.k[layer], k), (self.cache.v[layer], v)):
            held[self.rows, :, self.places] = new
            front = held[: len(self.rows), :, : self.reach].transpose(1, 2)
            seen.append(front if near is None else held[self.rows, :, near])
        return seen[0], seen[1], mask

    def _near(self, window: int) -> tuple[Tensor | None, Tensor]:
        """The positions (B, S) to copy, None: to read all from the front; (B, 1, 1, S) which of them are seen."""
        device = self.positions.device
        if GATHERED * (window + 1) < self.reach:
            near = self.positions - torch.arange(window, -1, -1, device=device)
            return near.clamp(min=0), additive(near[:, None, None] >= 0, self.cache.k.dtype)
        distance = self.positions[:, None, None] - torch.arange(self.reach, device=device)
        return None, additive((distance >= 0) & (distance <= window), self.cache.k.dtype)


class CUDACapture:
    """Captures steps of one device. Their graphs share memory, for one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.pool: Any = None  # a handle of torch's

    def __call__(self, step: Step) -> Step:
        """What computes the step anew, in one launch. RuntimeError where it cannot be captured."""
        with torch.cuda.device(self.device):
            graph = torch.cuda.CUDAGraph()
            # Other threads may use other devices, or this one for another model, meanwhile.
            with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
                result = step()
        self.pool = graph.pool()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


@attrs.frozen
class _Graph:
    fed: Tensor
    """(4, B) int64, what the next replay is fed: see `FixedView`."""
    replay: Step


class Graphs:
    """The graphs of one model and cache. capture: how a step becomes one; by default by CUDA."""

    def __init__(
        self, model: GPT, cache: KVCache, runtime: Runtime, capture: Callable[[Step], Step] | None = None
    ) -> None:
        self.model, self.cache, self.runtime = model, cache, runtime
        self.capture = capture or CUDACapture(runtime.device)
        self.usable = True
        """Whether all that were captured were right."""
        self._graphs: dict[tuple[int, int], _Graph] = {}

    def logits(self, requests: Sequence[Request]) -> Tensor:
        """Of B rows by ascending slot that feed one id each, (B, V) float32, which the next call may overwrite."""
        slots = [request.slot for request in requests if request.slot is not None]
        rows = min(_rounded(slots[-1] + 1), self.cache.slots)
        reach = min(max(LEAST_REACH, _rounded(1 + max(one.cached for one in requests))), self.cache.positions)
        # Rows that do not decode see position 0 of their slot, and write to one that nobody reads.
        columns = [(0, 0, self.cache.positions, -1)] * rows
        for slot, one in zip(slots, requests, strict=True):
            columns[slot] = (one.ids[one.cached], one.cached, one.cached, one.previous_id)
        fed = on_device(list(zip(*columns, strict=True)), self.runtime.device)
        if (graph := self._graphs.get((rows, reach))) is not None:
            graph.fed.copy_(fed)
            logits = graph.replay()
        else:
            logits = self._captured(fed, reach, slots)
        return logits if len(slots) == rows else logits[on_device(slots, self.runtime.device)]

    def _captured(self, fed: Tensor, reach: int, slots: Sequence[int]) -> Tensor:
        """The logits of the first rows, computed operator by operator, and by a graph from the next time on."""

        def step() -> Tensor:
            view = FixedView(self.cache, fed, reach)
            return self.model.logits(self.model.hidden(view.ids, view)[:, -1])

        expected = step()
        try:
            replay = self.capture(step)
            replayed = replay()
        except RuntimeError as fault:
            return self._give_up(str(fault).partition("\n")[0], expected)
        rows = on_device(slots, self.runtime.device)
        allowed = TOLERANCE * float(expected[rows].nan_to_num().abs().max())
        if not torch.allclose(replayed[rows], expected[rows], rtol=0, atol=allowed, equal_nan=True):
            return self._give_up("one computed something else", expected)
        self._graphs[fed.size(1), reach] = _Graph(fed, replay)
        return expected

    def _give_up(self, reason: str, logits: Tensor) -> Tensor:
        self.usable = False
        self._graphs.clear()
        self.runtime.note(f"decoding operator by operator, without CUDA graphs: {reason}")
        return logits


def _rounded(count: int) -> int:
    """The next power of two."""
    return 1 << (count - 1).bit_length()
