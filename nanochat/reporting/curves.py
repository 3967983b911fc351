"""The curves of a training stage: loss, evaluations, learning rates and speed, against tokens, time and FLOPs.

In: the lines of its metrics.jsonl. Out: plots. Time is that of training steps, without evaluations and pauses: between
two lines, the tokens of the steps over their rate.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import attrs

from nanochat.reporting.document import Picture
from nanochat.reporting.plot import Plot, Series, draw

MOST_POINTS = 1200
"""Of a curve: more are not seen, and make the page large."""
_FAR_APART = 5
Against = Literal["tokens", "time", "FLOPs"]


@attrs.frozen(kw_only=True)
class Curve:
    """A stage's steps, one place each."""

    steps: Sequence[float]
    tokens: Sequence[float]
    seconds: Sequence[float]
    flops_per_token: int | None
    lines: Sequence[Mapping[str, Any]]
    evaluations: Sequence[Mapping[str, Any]]

    def along(self, against: Against) -> tuple[list[float], str] | None:
        """Places of the steps on an axis, and what it is called; None where they are not known."""
        if against == "tokens":
            return list(self.tokens), "tokens"
        if against == "time":
            return in_time(self.seconds) if self.seconds[-1] > 0 else None
        return [self.flops_per_token * t for t in self.tokens] if self.flops_per_token else [], "FLOPs"

    def values(self, name: str) -> list[float]:
        """A figure of each line; nan where it has none."""
        return [number(line.get(name)) for line in self.lines]

    def place(self, step: float, places: Sequence[float]) -> float:
        """Where a step lies on an axis: between the lines around it."""
        steps = [0.0, *self.steps]
        along = [0.0, *places]
        for (a, b), (low, high) in zip(pairwise(steps), pairwise(along), strict=True):
            if step <= b:
                return low + (high - low) * (step - a) / (b - a) if b > a else high
        return along[-1]


def curve(metrics: Sequence[Mapping[str, Any]], flops_per_token: int | None) -> Curve | None:
    """The training part of a stage's metrics; None where it did not train."""
    lines = _thinned([line for line in metrics if _trains(line)])
    if not lines:
        return None
    tokens = [number(line.get("tokens")) for line in lines]
    seconds: list[float] = []
    before = 0.0
    for line, reached in zip(lines, tokens, strict=True):
        rate = number(line.get("tokens_per_second"))
        spent = (reached - before) / rate if rate > 0 else 0.0
        seconds.append((seconds[-1] if seconds else 0.0) + max(0.0, spent))
        before = reached
    return Curve(
        steps=[number(line["step"]) for line in lines],
        tokens=tokens,
        seconds=seconds,
        flops_per_token=flops_per_token,
        lines=lines,
        evaluations=[line for line in metrics if not _trains(line)],
    )


def pictures(found: Curve, stage: str) -> list[Picture]:
    """Every plot that a stage's metrics give; none of a stage that counts no tokens."""
    if not _any(found.tokens):
        return []
    axes: tuple[Against, ...] = ("tokens", "time", "FLOPs")
    plots = [*(_loss_against(found, axis) for axis in axes), *(_bpb_against(found, axis) for axis in axes)]
    plots += [_learning_rates(found), _throughput(found), _rewards(found)]
    return [
        Picture(svg=draw(attrs.evolve(plot, title=f"{stage}: {plot.title}")), caption=f"{stage}: {plot.title}")
        for plot in plots
        if plot is not None
    ]


def _loss_against(found: Curve, against: Against) -> Plot | None:
    """The loss, each line's and smoothed."""
    axis, losses = found.along(against), found.values("loss")
    if axis is None or not axis[0] or not _any(losses):
        return None
    places, label = axis
    smoothed = found.values("smoothed_loss")
    series = [Series(x=places, y=losses, label="loss", faint=_any(smoothed), colour=0)]
    if _any(smoothed):
        series.append(Series(x=places, y=smoothed, label="smoothed", colour=0))
    return _plot(f"loss against {against}", series, label, "loss (nats a token)")


def _bpb_against(found: Curve, against: Against) -> Plot | None:
    """Bits a byte of each part of the validation text, where it was measured more than once."""
    axis = found.along(against)
    names = [n for n in _names(found.evaluations) if n.rpartition(".")[0] and "bpb" in n.split(".")[1]]
    names = [n for n in names if sum(n in line for line in found.evaluations) > 1]
    if axis is None or not axis[0] or not names:
        return None
    series = []
    for name in names:
        lines = [line for line in found.evaluations if name in line]
        at = [found.place(number(line["step"]), axis[0]) for line in lines]
        short = name.partition(".")[2].removeprefix("bpb.") or name
        values = [number(line[name]) for line in lines]
        series.append(Series(x=at, y=values, label=short, style="both", dashed="unigram" in name))
    return _plot(f"bits per byte against {against}", series, axis[1], "bits per byte")


def _learning_rates(found: Curve) -> Plot | None:
    """Of each parameter group; on a log axis where they lie far apart."""
    names = [name for name in _names(found.lines) if name.startswith("lr.")]
    peaks = [max((v for v in found.values(name) if v > 0), default=0.0) for name in names]
    if not names or not max(peaks):
        return None
    series = [Series(x=found.tokens, y=found.values(name), label=name.removeprefix("lr.")) for name in names]
    apart = max(peaks) > _FAR_APART * min(peak for peak in peaks if peak)
    return _plot(
        "learning rates against tokens", series, "tokens", "learning rate", y_scale="log" if apart else "linear"
    )


def _throughput(found: Curve) -> Plot | None:
    rates = found.values("tokens_per_second")
    if not _any(rates):
        return None
    series = [Series(x=found.tokens, y=rates)]
    return _plot("throughput against tokens", series, "tokens", "tokens per second", y_from_zero=True)


def _rewards(found: Curve) -> Plot | None:
    names = [name for name in _names(found.lines) if "reward" in name]
    if not names:
        return None
    series = [Series(x=found.steps, y=found.values(name), label=name) for name in names]
    return _plot("reward against steps", series, "steps", "reward")


def in_time(seconds: Sequence[float]) -> tuple[list[float], str]:
    """Seconds in the unit that suits the longest, and what the axis is called."""
    longest = max(seconds, default=0.0)
    for length, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if longest >= 1.5 * length:
            return [s / length for s in seconds], f"training time ({unit})"
    return list(seconds), "training time (seconds)"


def number(value: Any) -> float:
    """A figure as a number; nan for what is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _plot(title: str, series: Sequence[Series], x_label: str, y_label: str, **more: Any) -> Plot:
    return Plot(title=title, series=series, x_label=x_label, y_label=y_label, **more)


def _names(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for line in lines for name in line if name not in ("step", "time")))


def _trains(line: Mapping[str, Any]) -> bool:
    """Whether a line is of training; the others are of evaluations."""
    return "step" in line and ("loss" in line or "tokens" in line)


def _any(values: Sequence[float]) -> bool:
    return any(map(math.isfinite, values))


def _thinned(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Every so many, and the last."""
    every = math.ceil(len(lines) / MOST_POINTS)
    return [*lines[:-1:every], lines[-1]] if every > 1 else list(lines)
