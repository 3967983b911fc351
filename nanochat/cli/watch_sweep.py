"""A sweep that is watched, as the lines of a screen and as lines for a log.

In: what `nanochat.sweeping.live` saw. Out: lines; of a queue with more trials than the screen has lines, those around
the first that is not done.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import click

from nanochat.cli.said import Said
from nanochat.cli.watch_screen import COLOURS, cut, in_one_line
from nanochat.quantity import duration
from nanochat.sweeping.axes import in_short
from nanochat.sweeping.sweep import in_words


def sweep_screen(seen: Mapping[str, Any], width: int, height: int) -> list[str]:
    """The lines, styled, none wider than the screen."""
    lines = [click.style(cut(_head(seen), width), bold=True)]
    if seen["best"] is not None:
        lines.append(cut(_best(seen), width))
    trials: Sequence[Mapping[str, Any]] = seen["trials"]
    first = next((i for i, trial in enumerate(trials) if trial["state"] not in ("done", "failed")), len(trials))
    shown = _window(len(trials), first, max(1, height - len(lines) - 2))
    if shown.start:
        lines.append(f"  … {shown.start} before")
    lines += [_row(trials[i], len(trials), width) for i in shown]
    if shown.stop < len(trials):
        lines.append(f"  … {len(trials) - shown.stop} after")
    return lines


@attrs.define
class SweepLines:
    """What is new since the look before, as lines for a log."""

    _said: Said = attrs.field(factory=Said)

    def of(self, seen: Mapping[str, Any]) -> list[str]:
        """How the sweep stands, how each trial's state has changed and how far it is, the best, the end."""
        lines, number = [], len(seen["trials"])
        for trial in seen["trials"]:
            state, name = trial["state"], _name(trial, number)
            if self._said.is_new(str(trial["trial"]), state) and state != "waiting":
                lines.append(f"{name}: {_outcome(trial)}")
            if (told := _at_work(trial)) and self._said.is_new(f"{trial['trial']} at work", told):
                lines.append(f"{name}: {told}")
        if seen["best"] is not None and self._said.is_new("best", best := _best(seen)):
            lines.append(best)
        if self._said.is_new("head", head := _head(seen)):
            lines.append(head)
        return lines


def _head(seen: Mapping[str, Any]) -> str:
    """depths: running; 3 done, 1 running, 2 waiting"""
    states = in_words([trial["state"] for trial in seen["trials"]])
    wanted = "; `nanochat sweeps go {}` works on it" if seen["state"] in ("waiting", "paused") else ""
    state = seen["state"] + (", paused" if seen["paused"] and seen["state"] == "running" else "")
    return f"{seen['sweep']}: {state}; {states}{wanted.format(seen['sweep'])}"


def _best(seen: Mapping[str, Any]) -> str:
    settings = in_short(seen["best"]["settings"].items())
    runs = len(seen["best"]["runs"])
    of = f" (mean of {runs} seeds)" if runs > 1 else ""
    return f"the best so far: {settings} with {seen['best']['figure']} {seen['best']['text']}{of}"


def _row(trial: Mapping[str, Any], number: int, width: int) -> str:
    told = _at_work(trial)
    line = f"  {_name(trial, number)}: {_outcome(trial)}" + (f", {told}" if told else "")
    return click.style(cut(line, width), fg=COLOURS.get(trial["state"]))


def _name(trial: Mapping[str, Any], number: int) -> str:
    """As a worker's lines begin."""
    return f"[{trial['place']}/{number} {trial['name']}]"


def _outcome(trial: Mapping[str, Any]) -> str:
    took = f" in {duration(trial['seconds'])}" if trial["seconds"] is not None else ""
    figures = ", ".join(f"{name} {value:.4g}" for name, value in list(trial["figures"].items())[:3])
    after = figures or str(trial["error"]).partition("\n")[0]
    return f"{trial['state']}{took}" + (f": {after}" if after else "")


def _at_work(trial: Mapping[str, Any]) -> str:
    """The stage, and how far it is."""
    stage = trial["at_work"]
    if stage is None:
        return ""
    return f"{stage['stage']}: {in_one_line(stage)}".removesuffix(": ")


def _window(number: int, place: int, room: int) -> range:
    """So many of `number` as there is room for, with `place` in their midst where it can be."""
    start = max(0, min(place - room // 2, number - room))
    return range(start, min(number, start + room))
