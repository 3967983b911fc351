"""Decoding steps of fixed shapes, as CUDA graphs, compiled, or both: of all of a model's operators, one by one, the
launches would take longer than the work.

In: a model, its cache, rows that feed one id each. Out: their logits. A graph computes fixed shapes: 1, 2, 4 … rows,
and so many positions from the front of their slots. Each is captured when it is first needed, and is believed if it
says what the operators said one by one; where it does not, or cannot be captured, there are none.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from nanochat.inference.kv import GATHERED, KVCache
from nanochat.inference.request import Request
from nanochat.inference.scheduler import Batch
from nanochat.inference.transfer import on_device
from nanochat.model.attention import additive, attend
from nanochat.model.gpt import GPT
from nanochat.runtime import Runtime

Step = Callable[[], Tensor]
"""Computes on memory that stays where it is."""
Capture = Callable[[Step], tuple[Callable[[], object], Tensor]]
"""Makes of a step what computes it again, and the memory where the result then is."""

LEAST_REACH = 256
"""Positions that the shortest graph reads; others read twice, four times … as many."""
TOLERANCE = 0.02
"""Of the largest logit, by which a graph may differ from its operators one by one."""
CPU_ROWS = 1
"""Of a compiled step on a CPU: of 8 it takes 0.8 of the operators' time, of 32 as much, and all are padded to those."""
RECOMPILATIONS = 64
"""Of one step, for all engines of a process. torch's own limit, 8, is meant for what should need one or two."""
_POISON = 1e30
_capturing = threading.Lock()
"""Of all captures in a process only one may be under way."""


class FixedView:
    """One id in each of B rows, fed as `fed` says whenever it is read: (5, B) of ids, positions, the places where their
    keys go, previous ids, slots. seen: the positions 0, 1, 2 … that are read. side_by_side: the slots are the first B.
    Fulfils the model's `CacheView`.
    """

    def __init__(self, cache: KVCache, fed: Tensor, seen: Tensor, *, side_by_side: bool) -> None:
        self.cache, self.seen, self.reach, self.side_by_side = cache, seen, seen.size(0), side_by_side
        self.ids, self.positions, self.places = fed[0, :, None], fed[1, :, None], fed[2, :, None]  # (B, 1) each
        self.previous_ids, self.slots = fed[3], fed[4]
        self.near: dict[int, tuple[Tensor | None, Tensor]] = {}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
        """Store k, v (B, 1, Hkv, D); `attend` of q (B, 1, H, D) to all that the window may reach, (B, 1, H, D)."""
        if window not in self.near:
            self.near[window] = self._near(window)
        near, mask = self.near[window]
        seen = []
        for held, new in ((self.cache.k[layer], k), (self.cache.v[layer], v)):
            held[self.slots[:, None], :, self.places] = new
            seen.append(held[self.slots[:, None], :, near] if near is not None else self._front(held))
        return attend(q, seen[0], seen[1], mask)

    def _front(self, held: Tensor) -> Tensor:
        front = held[:, :, : self.reach]
        rows = front[: len(self.slots)] if self.side_by_side else front[self.slots]
        return rows.transpose(1, 2)

    def _near(self, window: int) -> tuple[Tensor | None, Tensor]:
        """The positions (B, S) to copy, None: to read all from the front; (B, 1, 1, S) which of them are seen."""
        if GATHERED * (window + 1) < self.reach:
            near = self.positions - torch.arange(window, -1, -1, device=self.seen.device)
            return near.clamp(min=0), additive(near[:, None, None] >= 0, self.cache.dtype)
        distance = self.positions[:, None, None] - self.seen
        return None, additive((distance >= 0) & (distance <= window), self.cache.dtype)


def step_logits(model: GPT, cache: KVCache, fed: Tensor, seen: Tensor, side_by_side: bool) -> Tensor:
    """(B, V): one step, on what `FixedView` describes."""
    view = FixedView(cache, fed, seen, side_by_side=side_by_side)
    return model.logits(model.hidden(view.ids, view)[:, -1])


def computed_again(step: Step) -> tuple[Callable[[], object], Tensor]:
    """Where there are no graphs: the step itself, its result where the first one was."""
    result = step()
    return lambda: result.copy_(step()), result


class CUDACapture:
    """Captures steps of one device, on a stream of its own. Their graphs share memory, for one runs at a time.

    Not by `torch.cuda.graph`: its stream is that of the device that captured first, it frees all cached memory, and in
    some releases a capture that fails leaves the thread on that stream.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream: Any = None
        self.pool: Any = None  # a handle of torch's
        self.failed: Any = None  # kept, since torch may still refer to it

    def __call__(self, step: Step) -> tuple[Callable[[], object], Tensor]:
        """RuntimeError where the step cannot be captured."""
        with _capturing, torch.cuda.device(self.device):
            before = torch.cuda.current_stream()
            self.stream = self.stream or torch.cuda.Stream()
            self.stream.wait_stream(before)
            with torch.cuda.stream(self.stream):
                step()  # what is set up when an operator is first used on a stream may not be captured
                graph = self.failed = torch.cuda.CUDAGraph()
                # Other threads may allocate and wait meanwhile.
                graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
                try:
                    result = step()
                finally:
                    graph.capture_end()
                self.failed, self.pool = None, graph.pool()
            before.wait_stream(self.stream)
        return graph.replay, result


@attrs.frozen
class _Graph:
    fed: Tensor
    """(5, B) int64, what the next replay is fed: see `FixedView`."""
    seen: Tensor
    """What else it reads where it lies: kept, or the memory would be another's."""
    replay: Callable[[], object]
    logits: Tensor
    """(B, V), where the last replay wrote them."""


class Graphs:
    """The graphs of one model and cache, whose memory must stay where it is. capture: by default the device's.

    compiled: each is compiled before it is captured, which for one row takes a quarter of a minute and more, and as
    long for any number of further ones; see `warm`.
    """

    def __init__(
        self, model: GPT, cache: KVCache, runtime: Runtime, capture: Capture | None = None, *, compiled: bool = False
    ) -> None:
        self.model, self.cache, self.runtime, self.compiled = model, cache, runtime, compiled
        on_gpu = runtime.device.type == "cuda"
        self.capture = capture or (CUDACapture(runtime.device) if on_gpu else computed_again)
        self.most_rows = cache.slots if on_gpu or not compiled else CPU_ROWS
        """How many are computed together at most."""
        self.usable = True
        """Whether all that were captured were right."""
        self.graphs: dict[tuple[int, int, bool], _Graph] = {}

    @torch.inference_mode()
    def warm(self) -> None:
        """Compile now what is compiled, before anybody waits for an answer: steps of one row and of several."""
        longest = self.cache.positions
        reaches = {min(LEAST_REACH << doubled, longest) for doubled in range(longest.bit_length())}
        for count in [count for count in (1, 2) if count <= self.most_rows] if self.compiled else []:
            for reach in sorted(reaches):
                if self.usable:
                    fed = on_device(list(zip(*self._unused(count), strict=True)), self.runtime.device)
                    self._captured(fed, reach, range(count), side_by_side=count > 1)

    def takes(self, batch: Batch) -> bool:
        """Whether a batch is computed by a graph."""
        return self.usable and batch.decodes and len(batch.requests) <= self.most_rows

    def logits(self, requests: Sequence[Request]) -> Tensor:
        """Of B rows by ascending slot that feed one id each, (B, V) float32, which the next call may overwrite."""
        slots = [request.slot for request in requests if request.slot is not None]
        reach = min(max(LEAST_REACH, _rounded(1 + max(one.cached for one in requests))), self.cache.positions)
        least, most = _rounded(len(slots)), min(_rounded(slots[-1] + 1), self.cache.slots)
        # The first slots, used or not, are read where they lie; of a few among many each is copied.
        # What is compiled is so once for each of the two: one row is copied, several are not.
        side_by_side = most <= GATHERED * least if not self.compiled else least > 1
        rows = list(range(len(slots))) if not side_by_side else slots
        columns = self._unused(most if side_by_side else least)
        for row, slot, one in zip(rows, slots, requests, strict=True):
            columns[row] = (one.ids[one.cached], one.cached, one.cached, one.previous_id, slot)
        fed = on_device(list(zip(*columns, strict=True)), self.runtime.device)
        shape = len(columns), reach, side_by_side
        if (graph := self.graphs.get(shape)) is None:
            logits = self._captured(fed, reach, rows, side_by_side=side_by_side)
        else:
            graph.fed.copy_(fed)
            graph.replay()
            logits = graph.logits
        return logits if len(rows) == len(columns) else logits[on_device(rows, self.runtime.device)]

    def _unused(self, count: int) -> list[tuple[int, int, int, int, int]]:
        """What rows are fed that nobody uses: they see a slot's first position, and write to one that nobody reads."""
        return [(0, 0, self.cache.positions, -1, row % self.cache.slots) for row in range(count)]

    def _captured(self, fed: Tensor, reach: int, rows: Sequence[int], *, side_by_side: bool) -> Tensor:
        """The logits, computed operator by operator; by a graph from the next time on, if it computes the same."""
        seen = torch.arange(reach, device=self.runtime.device)
        given = self.model, self.cache, fed, seen, side_by_side
        expected = step_logits(*given)
        try:
            replay, logits = self._compiled(given) if self.compiled else self.capture(lambda: step_logits(*given))
            logits.fill_(_POISON)  # so that a graph that computes nothing is none
            replay()
        except Exception as fault:  # a compiler's are of many kinds
            first = fault.__context__ or fault  # what ended a capture, before its end was found to fail too
            return self._give_up(str(first).partition("\n")[0], expected)
        used = on_device(rows, self.runtime.device)
        allowed = TOLERANCE * float(expected[used].nan_to_num(0, 0, 0).abs().max())
        if not torch.allclose(logits[used], expected[used], rtol=0, atol=allowed, equal_nan=True):
            return self._give_up("one computed something else", expected)
        self.graphs[fed.size(1), reach, side_by_side] = _Graph(fed, seen, replay, logits)
        return expected

    def _compiled(self, given: tuple[GPT, KVCache, Tensor, Tensor, bool]) -> tuple[Callable[[], object], Tensor]:
        """What the capture of a compiled step gives. The compiler is imported here, for it takes seconds."""
        *_, fed, seen, side_by_side = given
        torch._dynamo.mark_dynamic(seen, 0)
        if side_by_side:
            torch._dynamo.mark_dynamic(fed, 1)
        step: Any = torch.compile(step_logits, fullgraph=True)
        with torch._dynamo.config.patch(recompile_limit=RECOMPILATIONS):
            return self.capture(lambda: step(*given))

    def _give_up(self, reason: str, logits: Tensor) -> Tensor:
        self.usable = False
        self.graphs.clear()
        self.runtime.note(f"decoding operator by operator, without graphs: {reason}")
        return logits


def _rounded(count: int) -> int:
    """The next power of two."""
    return 1 << (count - 1).bit_length()
