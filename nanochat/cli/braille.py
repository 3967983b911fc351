"""A curve in braille characters: two columns and four rows of dots in each.

In: points and a size in characters. Out: lines of exactly that width, with the values at top and bottom before them.
"""

from collections.abc import Sequence

BLANK = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Row and column in a character → its dot (Unicode, block U+2800)."""
_LABEL = 7
"""Characters that a value at the axis takes, with the space behind it."""


def plot(points: Sequence[tuple[float, float]], width: int, height: int) -> list[str]:
    """A curve through points with growing x, joined by straight lines. Nothing where there is no point."""
    if not points or width <= _LABEL or height < 1:
        return []
    columns, rows = 2 * (width - _LABEL), 4 * height
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low, high = min(ys), max(ys)
    cells = [[0] * (width - _LABEL) for _ in range(height)]
    before: tuple[int, int] | None = None
    for x, y in points:
        column, row = _place(x, xs[0], xs[-1], columns), rows - 1 - _place(y, low, high, rows)
        for dot_column, dot_row in _line(before or (column, row), (column, row)):
            cells[dot_row // 4][dot_column // 2] |= _DOTS[dot_row % 4][dot_column % 2]
        before = (column, row)
    labels = [""] * height
    labels[-1] = _short(low)
    labels[0] = _short(high)
    return [
        f"{label:>{_LABEL - 1}} " + "".join(chr(BLANK + cell) for cell in row)
        for label, row in zip(labels, cells, strict=True)
    ]


def _place(value: float, low: float, high: float, count: int) -> int:
    return round((count - 1) * (value - low) / (high - low)) if high > low else 0


def _line(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """The dots between two, both included."""
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    return [tuple(round(a + (b - a) * i / steps) for a, b in zip(start, end, strict=True)) for i in range(steps + 1)]  # type: ignore[misc]


def _short(value: float) -> str:
    return f"{value:.4g}" if len(f"{value:.4g}") < _LABEL else f"{value:.0e}"
