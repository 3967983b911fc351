"""Which process updates which part of which parameter, and so keeps the optimizer's state of it.

In: the shapes of a model's parameters, which of them may be cut, the number of processes, and `shard` of [hardware].
Out: one Share a parameter, the same on every process. Plain Python, no torch.

    none        every process updates everything
    optimizer   a parameter that is updated number by number is cut into equal rows, one piece a process; any other
                belongs whole to one process; small ones are everybody's, since a message costs more than their state
    full        the same, and what is not small is cut whatever its rows
"""

from collections.abc import Collection, Mapping, Sequence
from math import prod
from typing import Literal

import attrs

SMALLEST = 2**16
"""Numbers of the smallest parameter that is shared out: its state in AdamW is 512 KiB."""


@attrs.frozen(kw_only=True)
class Share:
    """Who updates a parameter."""

    kind: Literal["replicated", "owned", "cut"]
    owner: int = 0
    """owned: the rank that updates it."""

    def rows(self, shape: Sequence[int], rank: int, world_size: int) -> tuple[int, int] | None:
        """The rows [start, stop) that a rank updates, or None where it updates none. A single number has one row."""
        rows = shape[0] if shape else 1
        if self.kind == "cut":
            piece = -(-rows // world_size)
            start, stop = min(rank * piece, rows), min((rank + 1) * piece, rows)
            return (start, stop) if start < stop else None
        return (0, rows) if self.kind == "replicated" or self.owner == rank else None

    def saves(self, rank: int) -> bool:
        """Whether this rank is the one that writes its state of it into a checkpoint."""
        return self.kind == "cut" or self.owner == rank


def shares(
    layout: Mapping[str, Sequence[int]],
    *,
    shard: str,
    world_size: int,
    elementwise: Collection[str] = (),
    smallest: int = 1,
) -> dict[str, Share]:
    """The share of every parameter.

    elementwise: the parameters whose optimizer updates each number by itself, so that they may be cut.
    smallest: numbers of the smallest parameter that is not everybody's.
    Whole ones go, the costliest first, to the rank that has the least to do; the cost of a matrix is that of
    orthogonalising it.
    """
    found = {name: Share(kind="replicated") for name in layout}
    if shard == "none" or world_size == 1:
        return found
    load = [0] * world_size
    for name in sorted(layout, key=lambda name: -_cost(layout[name])):
        shape = layout[name]
        if prod(shape) < smallest:
            continue
        if name in elementwise and shape and (shape[0] % world_size == 0 or shard == "full"):
            found[name] = Share(kind="cut")
            continue
        owner = load.index(min(load))
        load[owner] += _cost(shape)
        found[name] = Share(kind="owned", owner=owner)
    return found


def _cost(shape: Sequence[int]) -> int:
    return prod(shape) * min(shape, default=1)
