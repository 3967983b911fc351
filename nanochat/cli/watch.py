"""`nanochat watch [RUN | SWEEP]`: a run while it goes on: curves, speed, data, memory, until it ends; or a sweep."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import click

from nanochat.cli.said import Said
from nanochat.cli.watch_screen import error_lines, in_one_line, screen, shown_stage
from nanochat.cli.watch_sweep import SweepLines, sweep_screen
from nanochat.errors import InputError, wrong_input
from nanochat.quantity import duration
from nanochat.running.find import find_run
from nanochat.running.live import LiveRun, run_to_watch
from nanochat.sweeping.live import LiveSweep
from nanochat.sweeping.sweep import find_sweep, list_sweeps

_TERMINAL_SECONDS, _LINE_SECONDS = 1.0, 10.0
_GOES_ON = ("running", "waiting")
_TO_COME = (*_GOES_ON, "paused")
"""What a sweep is in that is not through; one that is paused is looked at once."""
Screen = Callable[[Mapping[str, Any], int, int], list[str]]
"""What was seen, and the width and height in characters → lines."""


@click.command("watch")
@click.argument("what", required=False, metavar="[RUN | SWEEP]")
@click.option("--sweep", "is_sweep", is_flag=True, help="It is the sweep of this name, not the run.")
@click.option("--every", type=click.FloatRange(0.1, 3600), help="Seconds between two looks: 1 on a terminal, else 10.")
@click.option("--once", is_flag=True, help="Look once.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line, without the curves.")
def command(what: str | None, is_sweep: bool, every: float | None, once: bool, as_json: bool) -> None:
    """Watch a run (a name or a folder; without one, what is being run, or the newest) or a sweep until it ends.

    On a terminal a screen, elsewhere plain lines. Nothing of the run is touched: watching can begin and end at any
    time. The exit code is 1 where the run, or a trial of the sweep, has failed.

    A sweep: its queue, how far the trials at work are, the best so far. Where runs have the sweep's name too, it is
    the sweep as long as trials wait or run, paused or not; --sweep says that it is meant in any case.
    """
    watched = _found(what, is_sweep=is_sweep)
    on_terminal = sys.stdout.isatty() and not as_json
    looks = _looks(watched, every or (_TERMINAL_SECONDS if on_terminal else _LINE_SECONDS), once=once)
    is_run = isinstance(watched, LiveRun)
    try:
        if as_json:
            seen = _show_json(looks)
        elif on_terminal:
            seen = _show_screen(looks, screen if is_run else sweep_screen)
        else:
            seen = _show_lines(looks, Lines() if is_run else SweepLines())
    except KeyboardInterrupt:  # the watching ends, not the run
        return
    sys.exit(int(seen["state"] == "failed"))


def _found(what: str | None, *, is_sweep: bool) -> LiveRun | LiveSweep:
    """What is meant. InputError E405 where nothing is."""
    if what is None:
        if is_sweep:
            raise wrong_input("E407", "--sweep needs a name", help="nanochat sweeps lists them")
        return LiveRun(run_to_watch())
    called = {sweep.path.name: LiveSweep(sweep) for sweep in list_sweeps()}.get(what)
    if is_sweep or (called is not None and called.look()["state"] in _TO_COME):
        return called or LiveSweep(find_sweep(what))
    try:
        return LiveRun(find_run(what))
    except InputError:
        if called is None:
            raise
        return called


def _looks(watched: LiveRun | LiveSweep, seconds: float, *, once: bool) -> Iterator[dict[str, Any]]:
    while True:
        seen = watched.look()
        yield seen
        if once or seen["state"] not in _GOES_ON:
            return
        time.sleep(seconds)


def _show_json(looks: Iterator[dict[str, Any]]) -> Mapping[str, Any]:
    seen: Mapping[str, Any] = {}
    for seen in looks:
        plain = dict(seen)
        if "stages" in seen:  # a run
            plain["stages"] = [{k: v for k, v in stage.items() if k != "curves"} for stage in seen["stages"]]
        click.echo(json.dumps(plain, ensure_ascii=False))
    return seen


def _show_screen(looks: Iterator[dict[str, Any]], lines_of: Screen) -> Mapping[str, Any]:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console, seen = Console(highlight=False), None
    with Live(console=console, auto_refresh=False, vertical_overflow="crop", transient=True) as display:
        for seen in looks:
            width, height = console.size
            lines = lines_of(seen, width, height - 1)
            display.update(Text.from_ansi("\n".join(lines), no_wrap=True), refresh=True)
    assert seen is not None
    # The last look stays on the screen, whole.
    console.print(Text.from_ansi("\n".join(lines_of(seen, *console.size)), no_wrap=True))
    return seen


def _show_lines(looks: Iterator[dict[str, Any]], lines: "Lines | SweepLines") -> Mapping[str, Any]:
    seen: Mapping[str, Any] = {}
    for seen in looks:
        for line in lines.of(seen):
            click.echo(line)
        sys.stdout.flush()
    return seen


@attrs.define
class Lines:
    """What is new since the look before, as lines for a log."""

    _said: Said = attrs.field(factory=Said)

    def of(self, seen: Mapping[str, Any]) -> list[str]:
        """How each stage's state has changed, the figures of the one at work, the end."""
        lines = []
        for stage in seen["stages"]:
            state = stage["state"].partition(",")[0]
            if self._said.is_new(stage["stage"], state):
                lines.append(f"{stage['stage']}: {state}" + _took(stage))
        stage = shown_stage(seen)
        if stage is not None and stage["at_work"] and (told := in_one_line(stage)) and self._said.is_new("", told):
            lines.append(f"{stage['stage']}: {told}")
        if seen["state"] != "running":
            lines.append(f"{seen['run']}: {seen['state']}")
        if seen["error"] is not None:
            lines += error_lines(seen["error"], 10**6)
        return lines


def _took(stage: Mapping[str, Any]) -> str:
    return f" in {duration(stage['seconds'])}" if stage["seconds"] is not None else ""
