"""The resolved table of parameter groups: what each updates, by which optimizer, how fast, and what that keeps.

In: a group's component and the shapes of its parameters. Out: rows, kept in a run's lock and shown when a stage starts.
Plain Python, no torch.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import attrs

from nanochat.config import Component
from nanochat.quantity import size


@attrs.frozen(kw_only=True)
class GroupRow:
    """One group."""

    name: str
    use: str
    tensors: int
    parameters: int
    """Numbers in these tensors."""
    peak_lr: float | None
    """The learning rate at its peak, all factors included; None where the optimizer has no `lr`."""
    weight_decay: float | None
    """Where a schedule scales it, at its start."""
    state_bytes: int | None
    """What the optimizer keeps from step to step, of all processes together; None where it does not say."""

    def facts(self) -> dict[str, Any]:
        """As a lock keeps them: what is not known is left out."""
        return {name: value for name, value in attrs.asdict(self).items() if name != "name" and value is not None}


def group_row(group: Component, shapes: Mapping[str, Sequence[int]], lr_factor: float) -> GroupRow:
    """The row of a group with parameters of these shapes; lr_factor: the stage's own, over all groups."""
    lr = getattr(group.config, "lr", None)
    return GroupRow(
        name=group.name,
        use=group.use,
        tensors=len(shapes),
        parameters=sum(prod(shape) for shape in shapes.values()),
        peak_lr=lr * lr_factor * group.slot.lr_factor if isinstance(lr, float) else None,
        weight_decay=getattr(group.config, "weight_decay", None),
        state_bytes=_state_bytes(group.config, shapes),
    )


def _state_bytes(config: Any, shapes: Mapping[str, Sequence[int]]) -> int | None:
    try:
        return int(config.state_bytes([tuple(shape) for shape in shapes.values()]))
    except Exception:  # it does not say, or a plugin's method fails, which `nanochat estimate` tells of
        return None


def table_text(rows: Sequence[GroupRow]) -> str:
    """The rows as lines of aligned columns."""
    head = ["group", "optimizer", "tensors", "parameters", "peak lr", "weight decay", "state"]
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for line in cells:
        texts = [
            cell.ljust(w) if at < 2 else cell.rjust(w) for at, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(texts).rstrip())
    return "\n".join(lines)


def _cells(row: GroupRow) -> list[str]:
    numbers = [f"{value:.4g}" if value is not None else "" for value in (row.peak_lr, row.weight_decay)]
    state = size(row.state_bytes) if row.state_bytes is not None else ""
    return [row.name, row.use, f"{row.tensors:,}", f"{row.parameters:,}", *numbers, state]
