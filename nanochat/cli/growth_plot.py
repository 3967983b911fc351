"""How a step's time grows, on a logarithmic axis of text: measured, and as it would be were every FLOP as quick as in
the first row. In: a TrainingSpeed for each value. Out: lines on stdout.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from nanochat.cli.sheet import print_table
from nanochat.quantity import count

if TYPE_CHECKING:
    from nanochat.benchmarking.training_speed import TrainingSpeed

WIDTH = 41
"""Columns of the axis."""


def print_growth(key: str, series: "Sequence[tuple[int, TrainingSpeed]]") -> None:
    """One row a value: FLOPs and microseconds a token, the share of the peak, and both times on the axis."""
    times = [1e6 / speed.tokens_per_second for _, speed in series]
    _, first = series[0]
    ideal = [times[0] * speed.flops_per_token / first.flops_per_token for _, speed in series]
    low, high = min(*times, *ideal), max(*times, *ideal)
    click.secho(f"time a token by {key}, {low:,.0f} … {high:,.0f} µs on a log axis; ", bold=True, nl=False)
    click.echo("* measured, o proportional to FLOPs, @ both")
    rows = [
        [
            str(value),
            count(speed.flops_per_token),
            f"{time:,.1f}",
            f"{speed.of_peak:.1%}",
            axis(time, expected, low, high),
        ]
        for (value, speed), time, expected in zip(series, times, ideal, strict=True)
    ]
    print_table([key, "FLOPs/token", "µs/token", "of peak", "".ljust(WIDTH, "-")], rows, words=0, indent="  ")


def axis(time: float, expected: float, low: float, high: float) -> str:
    """Marks at two times of a logarithmic axis from `low` to `high`."""
    place, other = (
        round((WIDTH - 1) * math.log(value / low) / math.log(high / low)) if high > low else 0
        for value in (time, expected)
    )
    marks = [" "] * WIDTH
    marks[other] = "o"
    marks[place] = "@" if place == other else "*"
    return "".join(marks)
