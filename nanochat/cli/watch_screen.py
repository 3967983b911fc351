"""A run that is watched, as the lines of a screen.

In: what `nanochat.running.live` saw, and a size in characters. Out: lines, none wider; the stages first, then the one
at work, its curves as high as there is room for. Not here: how the screen is refreshed.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import click

from nanochat.cli.braille import plot
from nanochat.quantity import count, duration, size

_LEAST_PLOT, _MOST_PLOT = 3, 12
"""Lines of a curve."""
COLOURS = {"finished": "green", "done": "green", "running": "cyan", "failed": "red", "stopped": "yellow"}
"""Of a state, of a stage or of a trial."""

_LOSSES = {"smoothed_loss": "smoothed loss", "loss": "loss"}
"""What a stage tells of its loss, the best to read first, and what it is called."""


def screen(seen: Mapping[str, Any], width: int, height: int) -> list[str]:
    """The lines, styled."""
    head = f"{seen['run']}: {seen['state']}, {seen['done']} of {seen['planned']} stages"
    lines = [click.style(cut(head, width), bold=True)]
    lines += [_stage_line(stage, width) for stage in seen["stages"]]
    stage = shown_stage(seen)
    if stage is not None:
        told = _told(stage, width)
        curves = {name: points for name, points in stage["curves"].items() if len(points) > 1}
        room = height - len(lines) - len(told) - 1
        lines += ["", *_curves(curves, width, room - 1), *told]
    if seen["error"] is not None:
        lines += ["", *error_lines(seen["error"], width)]
    return lines


def shown_stage(seen: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The stage at work; else the last one that left a curve, or anything."""
    stages: Sequence[Mapping[str, Any]] = seen["stages"]
    at_work = [stage for stage in stages if stage["at_work"]]
    drawn = [stage for stage in stages if stage["curves"]["loss"]]
    found = at_work or drawn[-1:]
    return found[-1] if found else None


def error_lines(error: Mapping[str, str], width: int) -> list[str]:
    """What a run failed with."""
    said = [
        f"error[{error['code']}] in {error['stage']}: {error['message']}",
        error["help"],
        f"the log: {error['log']}",
    ]
    first, *more = [part for line in said if line for part in _wrapped(line, width)]
    return [click.style(first, fg="red", bold=True), *more]


def in_one_line(stage: Mapping[str, Any]) -> str:
    """How far a stage is, its loss and its speed; nothing where it has not said."""
    progress, figures, rate = stage["progress"], stage["figures"], stage["tokens_per_second"]
    if not progress:
        return ""
    loss = next((f"{its} {figures[name]:.4g}" for name, its in _LOSSES.items() if figures.get(name) is not None), None)
    parts = [
        f"{progress['done']:,} of {progress['total']:,} {progress['unit']}",
        *([loss] if loss is not None else []),
        *([f"{rate:,.0f} tokens/s"] if rate else []),
        *([f"MFU {figures['mfu']:.1%}"] if figures.get("mfu") else []),
        *([f"{duration(stage['seconds_left'])} left"] if stage["seconds_left"] is not None else []),
    ]
    return " · ".join(parts)


def _stage_line(stage: Mapping[str, Any], width: int) -> str:
    state = stage["state"]
    took = f"  {duration(stage['seconds'])}" if stage["seconds"] is not None else ""
    line = cut(f"  {stage['stage']:<8} {state}{took}  {' · '.join(_numbers(stage['results']))}".rstrip(), width)
    return click.style(line, fg=COLOURS.get(state.replace(",", " ").split(" ")[0]))


def _curves(curves: Mapping[str, Sequence[tuple[int, float]]], width: int, room: int) -> list[str]:
    """Each curve below its name, as many as fit."""
    lines: list[str] = []
    if not curves:
        return lines
    fitting = max(1, min(len(curves), room // (_LEAST_PLOT + 1)))
    high = max(_LEAST_PLOT, min(_MOST_PLOT, room // fitting - 1))
    for name, points in list(curves.items())[:fitting]:
        (first, _), (last, value) = points[0], points[-1]
        lines.append(click.style(cut(f"{name} {value:.4g}, steps {first:,} to {last:,}", width), bold=True))
        lines += plot(points, width, high)
    return lines


def _told(stage: Mapping[str, Any], width: int) -> list[str]:
    """Names, and beside each its figures; below it, where the screen is narrow."""
    lines = []
    for name, parts in _facts(stage):
        if parts:
            first, *more = _wrapped(" · ".join(parts), max(20, width - 10))
            lines += [cut(f"{name:<9} {first}", width), *(cut(f"{'':<9} {line}", width) for line in more)]
    return lines


def _facts(stage: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    figures, memory = stage["figures"], stage["memory"]
    evaluated = {name: value for name, value in stage["evaluation"].items() if name not in ("step", "time")}
    return [
        ("progress", _progress(stage)),
        ("speed", _speed(stage)),
        ("loss", _numbers(figures, ("loss", "smoothed_loss", "gradient_norm"))),
        ("rates", _numbers(stage["rates"])),
        ("data", _numbers(stage["data"])),
        ("memory", _memory(figures, memory)),
        ("evals", [f"step {stage['evaluation']['step']:,}", *_numbers(evaluated)[:8]] if evaluated else []),
    ]


def _progress(stage: Mapping[str, Any]) -> list[str]:
    progress, left = stage["progress"], stage["seconds_left"]
    if not progress:
        return []
    done = f"{progress['done']:,} of {progress['total']:,} {progress['unit']}"
    return [done, *([f"{duration(left)} left"] if left is not None else [])]


def _speed(stage: Mapping[str, Any]) -> list[str]:
    figures, rate = stage["figures"], stage["tokens_per_second"]
    share, wait = figures.get("mfu"), figures.get("data_wait")
    return [
        *([f"{rate:,.0f} tokens/s"] if rate else []),
        *([f"MFU {share:.1%}"] if share else []),
        *([f"{wait:.1%} waiting for data"] if wait is not None else []),
        *([f"{count(figures['tokens'])} tokens seen"] if figures.get("tokens") else []),
    ]


def _memory(figures: Mapping[str, Any], memory: Mapping[str, int]) -> list[str]:
    peak = figures.get("peak_memory_bytes")
    return [
        *(f"rank {rank} {size(bytes_)}" for rank, bytes_ in memory.items()),
        *([f"peak {size(peak)}"] if peak else []),
    ]


def _numbers(figures: Mapping[str, Any], names: Sequence[str] | None = None) -> list[str]:
    chosen = figures if names is None else [name for name in names if name in figures]
    return [f"{name} {_number(figures[name])}" for name in chosen]


def _number(value: Any) -> str:
    if not isinstance(value, int | float):
        return "not finite" if value is None else str(value)
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(1, width), break_on_hyphens=False) or [""]


def cut(text: str, width: int) -> str:
    """What of a line there is room for."""
    return text if len(text) <= width else text[: width - 1] + "…"
