"""How likely a model finds given continuations: many examples at once, each as if it were alone.

In: examples, each some id sequences that begin alike, and from where on each of them is scored. Out: for each sequence
the nats of its scored ids, and whether the model would have written them greedily. What the sequences of an example
share is computed once: an example is one row, its beginning first and the rest of each sequence behind it, and a mask
shows each rest the beginning and itself alone. Logits are computed only where an id is scored. Not here: prompts, and
what a score means.
"""

from collections.abc import Iterator, Sequence

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nanochat.model.attention import additive, attend
from nanochat.model.gpt import GPT
from nanochat.runtime import Runtime

Ids = NDArray[np.integer]
TOKENS, CPU_TOKENS = 16_384, 1024
"""Ids fed at once. On a CPU more do not fit into its caches: a d4 takes 1.6 times as long with 16,384 as with 1,000
(tests/benchmarks/test_core_speed.py's bundle, one thread)."""
LOGITS_AT_ONCE = 1 << 24
"""Logits that are there at a time: 64 MiB of float32, whatever the vocabulary."""


@attrs.frozen(kw_only=True)
class Score:
    """What a model thinks of one sequence's scored ids."""

    nats: float
    """Their sum, that is −log of their probability."""
    tokens: int
    greedy: bool
    """Whether each of them is the likeliest id at its place."""

    @property
    def mean(self) -> float:
        """Nats a scored id."""
        return self.nats / self.tokens


@attrs.frozen(kw_only=True, eq=False)
class Continuations:
    """Sequences that begin with `shared`, of at least one id, and go on with `endings`, each of at least one."""

    shared: Ids
    endings: Sequence[Ids]
    starts: Sequence[int]
    """Of each sequence: the position, from its beginning and at least 1, of the first id that is scored."""

    @classmethod
    def of(cls, sequences: Sequence[Ids], starts: Sequence[int]) -> "Continuations":
        """Of whole sequences. ValueError where one has nothing to score, no context, or they begin differently."""
        for sequence, start in zip(sequences, starts, strict=True):
            if not 1 <= start < len(sequence):
                raise ValueError(f"of {len(sequence)} ids, those from {start} on cannot be scored")
        # The last id of a sequence is only foretold, never fed, so that it need not be shared.
        count = min(common_length(sequences), min(map(len, sequences)) - 1)
        if count < 1:
            raise ValueError("the sequences begin differently")
        return cls(shared=sequences[0][:count], endings=[ids[count:] for ids in sequences], starts=list(starts))

    @property
    def sequences(self) -> list[Ids]:
        """As they are."""
        return [np.concatenate((self.shared, ending)) for ending in self.endings]

    @property
    def cost(self) -> int:
        """Ids that are fed at most."""
        return len(self.shared) + sum(len(ending) for ending in self.endings if len(ending) > 1)

    @property
    def branched(self) -> bool:
        """Whether anything is fed behind what is shared."""
        return any(len(ending) > 1 for ending in self.endings)

    def fits(self, longest: int) -> bool:
        """Whether no sequence has more ids."""
        return len(self.shared) + max(map(len, self.endings)) <= longest

    def cut(self, longest: int) -> "list[Continuations]":
        """The last `longest` ids of each sequence; one each where these no longer begin alike, but in order.

        ValueError where nothing would be left before what is scored.
        """
        whole = self.sequences
        kept = [ids[-longest:] for ids in whole]
        starts = [start - max(0, len(ids) - longest) for ids, start in zip(whole, self.starts, strict=True)]
        if common_length(kept):
            return [Continuations.of(kept, starts)]
        return [Continuations.of([ids], [start]) for ids, start in zip(kept, starts, strict=True)]


def common_length(sequences: Sequence[Ids]) -> int:
    """How many ids all sequences begin with."""
    count = min(map(len, sequences))
    first = sequences[0][:count]
    differ = np.zeros(count, dtype=bool)
    for other in sequences[1:]:
        differ |= first != other[:count]
    return int(differ.argmax()) if differ.any() else count


@attrs.define(eq=False)
class _Row:
    """What is fed for one example, and where in it something is foretold."""

    ids: list[int]
    positions: list[int]
    segments: list[int]
    """Which ending an id belongs to, from 1 on; 0: it is shared; -1: no other id sees it."""
    at: list[int] = attrs.field(factory=list)
    """Where the hidden state is that foretells a scored id."""
    targets: list[int] = attrs.field(factory=list)
    owners: list[int] = attrs.field(factory=list)
    """Which of the distinct sequences a scored id belongs to."""
    copies: list[int] = attrs.field(factory=list)
    """Of each of the example's sequences: which distinct one it is."""

    @classmethod
    def of(cls, example: Continuations) -> "_Row":
        shared = len(example.shared)
        row = cls(ids=example.shared.tolist(), positions=[*range(shared)], segments=[0] * shared)
        distinct: dict[tuple[bytes, int], int] = {}
        for ending, start in zip(example.endings, example.starts, strict=True):
            # Sequences that are the same get the same score to the last bit: ties stay ties.
            key = (ending.tobytes(), start)
            if key not in distinct:
                distinct[key] = len(distinct)
                row._add(example.shared, ending, start, number=distinct[key])
            row.copies.append(distinct[key])
        return row

    def _add(self, shared: Ids, ending: Ids, start: int, number: int) -> None:
        count, begin = len(shared), len(self.ids) + 1
        for position in range(start, count + len(ending)):
            before = position - 1
            self.at.append(before if before < count else begin + before - count)
            self.targets.append(int(ending[position - count] if position >= count else shared[position]))
            self.owners.append(number)
        if len(ending) > 1:
            # The last shared id comes again, for a model that mixes an id with the one before it (smear); what is
            # computed at its place nobody sees.
            self.ids += [int(shared[-1]), *ending[:-1].tolist()]
            self.positions += range(count - 1, count + len(ending) - 1)
            self.segments += [-1, *[number + 1] * (len(ending) - 1)]


class _Branches:
    """The view of a batch of rows that a forward pass gets: no cache is kept, each ending sees its own beginning."""

    def __init__(self, rows: Sequence[_Row], width: int, device: torch.device, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.positions = _padded([row.positions for row in rows], width, 0).to(device)  # (B, T)
        self.previous_ids = torch.full((len(rows),), -1, device=device)
        segments = _padded([row.segments for row in rows], width, -1).to(device)
        query, key = segments[:, None, :, None], segments[:, None, None, :]
        # Whoever sees nobody else sees itself: a softmax over nothing is no number.
        itself = torch.eye(width, dtype=torch.bool, device=device)
        self.distance = self.positions[:, None, :, None] - self.positions[:, None, None, :]  # (B, 1, T, T)
        self.related = ((key == 0) | ((key == query) & (key > 0)) | itself) & (self.distance >= 0)
        self.masks: dict[int, Tensor] = {}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:  # noqa: ARG002
        """`attend` of q (B, T, H, D) to k, v (B, T, Hkv, D)."""
        if window not in self.masks:
            self.masks[window] = additive(self.related & (self.distance <= window), self.dtype)
        return attend(q, k, v, self.masks[window])


class Scorer:
    """A model that scores; `tokens`: ids fed at once, padding included, by default what the device does best."""

    def __init__(self, model: GPT, runtime: Runtime, *, tokens: int | None = None) -> None:
        self.model, self.runtime = model, runtime
        self.tokens = tokens or (CPU_TOKENS if runtime.device.type == "cpu" else TOKENS)

    def batches(self, costs: Sequence[int], branched: Sequence[bool] | None = None) -> list[list[int]]:
        """Numbers of examples that are scored together, by their costs: those of one length, the longest first.

        branched: which of them branch; these are not mixed with the others, which need no mask.
        """
        kinds = branched or [True] * len(costs)
        found: list[list[int]] = []
        width, kind = 0, False
        for number in sorted(range(len(costs)), key=lambda number: (kinds[number], -costs[number])):
            if not found or kinds[number] != kind or (len(found[-1]) + 1) * width > self.tokens:
                found.append([])
                width, kind = costs[number], kinds[number]
            found[-1].append(number)
        return found

    def score(self, examples: Sequence[Continuations]) -> list[list[Score]]:
        """The scores of every example's sequences, in the order given."""
        found: dict[int, list[Score]] = {}
        branched = [example.branched for example in examples]
        for batch in self.batches([example.cost for example in examples], branched):
            scored = self.score_batch([examples[number] for number in batch])
            found |= zip(batch, scored, strict=True)
        return [found[number] for number in range(len(examples))]

    @torch.inference_mode()
    def score_batch(self, examples: Sequence[Continuations]) -> list[list[Score]]:
        """As `score`, in one forward pass."""
        rows = [_Row.of(example) for example in examples]
        width = max(len(row.ids) for row in rows)
        device = self.runtime.device
        ids = _padded([row.ids for row in rows], width, 0).to(device)
        branched = any(example.branched for example in examples)
        # Without branches, causal attention alone keeps real ids from seeing the padding behind them.
        line = torch.tensor([number for number, row in enumerate(rows) for _ in row.at], device=device)
        at = torch.tensor([place for row in rows for place in row.at], device=device)
        targets = torch.tensor([target for row in rows for target in row.targets], device=device)
        view = _Branches(rows, width, device, self.model.dtype) if branched else None
        hidden = self.model.hidden(ids, view, places=(line, at))  # (N, C)
        nats, greedy = self._foretold(hidden, targets)
        return list(_by_example(rows, nats, greedy))

    def _foretold(self, hidden: Tensor, targets: Tensor) -> tuple[list[float], list[bool]]:
        """hidden (N, C), targets (N,) → nats of each target, and whether it is the likeliest."""
        nats: list[float] = []
        greedy: list[bool] = []
        for part, wanted in zip(*(each.split(self._at_once) for each in (hidden, targets)), strict=True):
            logits = self.model.logits(part)  # (n, V) float32
            chosen = logits.gather(1, wanted[:, None])[:, 0]
            nats += (logits.logsumexp(dim=1) - chosen).double().tolist()
            greedy += (logits.argmax(dim=1) == wanted).tolist()
        return nats, greedy

    @property
    def _at_once(self) -> int:
        return max(1, LOGITS_AT_ONCE // self.model.config.vocab_size)


def _padded(rows: Sequence[Sequence[int]], width: int, fill: int) -> Tensor:
    """Rows as one (B, width), filled up on the right, where no real id looks."""
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], dtype=torch.int64)


def _by_example(rows: Sequence[_Row], nats: Sequence[float], greedy: Sequence[bool]) -> Iterator[list[Score]]:
    begin = 0
    for row in rows:
        count = max(row.copies) + 1
        sums, tokens, right = [0.0] * count, [0] * count, [True] * count
        for offset, owner in enumerate(row.owners, begin):
            sums[owner] += nats[offset]
            tokens[owner] += 1
            right[owner] &= greedy[offset]
        begin += len(row.owners)
        made = [Score(nats=s, tokens=n, greedy=g) for s, n, g in zip(sums, tokens, right, strict=True)]
        yield [made[number] for number in row.copies]
