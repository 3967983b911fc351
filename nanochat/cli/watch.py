"""`nanochat watch [RUN]`: a run while it goes on: curves, speed, data, memory, until it ends."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import click

from nanochat.cli.watch_screen import error_lines, screen, shown_stage
from nanochat.quantity import duration
from nanochat.running.find import find_run
from nanochat.running.live import LiveRun, run_to_watch

_TERMINAL_SECONDS, _LINE_SECONDS = 1.0, 10.0


@click.command("watch")
@click.argument("run", required=False)
@click.option("--every", type=click.FloatRange(0.1, 3600), help="Seconds between two looks: 1 on a terminal, else 10.")
@click.option("--once", is_flag=True, help="Look once.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line, without the curves.")
def command(run: str | None, every: float | None, once: bool, as_json: bool) -> None:
    """Watch RUN (a name or a folder; without one, what is being run, or the newest) until it ends.

    On a terminal a screen, elsewhere plain lines. Nothing of the run is touched: watching can begin and end at any
    time. The exit code is 1 where the run has failed.
    """
    live = LiveRun(find_run(run) if run else run_to_watch())
    on_terminal = sys.stdout.isatty() and not as_json
    looks = _looks(live, every or (_TERMINAL_SECONDS if on_terminal else _LINE_SECONDS), once=once)
    try:
        seen = _show_json(looks) if as_json else _show_screen(looks) if on_terminal else _show_lines(looks)
    except KeyboardInterrupt:  # the watching ends, not the run
        return
    sys.exit(int(seen["state"] == "failed"))


def _looks(live: LiveRun, seconds: float, *, once: bool) -> Iterator[dict[str, Any]]:
    while True:
        seen = live.look()
        yield seen
        if once or seen["state"] != "running":
            return
        time.sleep(seconds)


def _show_json(looks: Iterator[dict[str, Any]]) -> Mapping[str, Any]:
    seen: Mapping[str, Any] = {}
    for seen in looks:
        stages = [{name: value for name, value in stage.items() if name != "curves"} for stage in seen["stages"]]
        click.echo(json.dumps({**seen, "stages": stages}, ensure_ascii=False))
    return seen


def _show_screen(looks: Iterator[dict[str, Any]]) -> Mapping[str, Any]:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console, seen = Console(highlight=False), None
    with Live(console=console, auto_refresh=False, vertical_overflow="crop", transient=True) as display:
        for seen in looks:
            width, height = console.size
            lines = screen(seen, width, height - 1)
            display.update(Text.from_ansi("\n".join(lines), no_wrap=True), refresh=True)
    assert seen is not None
    # The last look stays on the screen, whole.
    console.print(Text.from_ansi("\n".join(screen(seen, *console.size)), no_wrap=True))
    return seen


def _show_lines(looks: Iterator[dict[str, Any]]) -> Mapping[str, Any]:
    lines = Lines()
    seen: Mapping[str, Any] = {}
    for seen in looks:
        for line in lines.of(seen):
            click.echo(line)
        sys.stdout.flush()
    return seen


@attrs.define
class Lines:
    """What is new since the look before, as lines for a log."""

    _said: dict[str, str] = attrs.field(factory=dict)

    def of(self, seen: Mapping[str, Any]) -> list[str]:
        """How each stage's state has changed, the figures of the one at work, the end."""
        lines = []
        for stage in seen["stages"]:
            state = stage["state"].partition(",")[0]
            if self._new(stage["stage"], state):
                lines.append(f"{stage['stage']}: {state}" + _took(stage))
        stage = shown_stage(seen)
        if stage is not None and stage["at_work"] and (told := _in_one_line(stage)) and self._new("", told):
            lines.append(f"{stage['stage']}: {told}")
        if seen["state"] != "running":
            lines.append(f"{seen['run']}: {seen['state']}")
        if seen["error"] is not None:
            lines += error_lines(seen["error"], 10**6)
        return lines

    def _new(self, name: str, said: str) -> bool:
        new, self._said[name] = self._said.get(name) != said, said
        return new


def _took(stage: Mapping[str, Any]) -> str:
    return f" in {duration(stage['seconds'])}" if stage["seconds"] is not None else ""


def _in_one_line(stage: Mapping[str, Any]) -> str:
    progress, figures, rate = stage["progress"], stage["figures"], stage["tokens_per_second"]
    if not progress:
        return ""
    loss = figures.get("smoothed_loss", figures.get("loss"))
    parts = [
        f"{progress['done']:,} of {progress['total']:,} {progress['unit']}",
        *([f"loss {loss:.4g}"] if loss is not None else []),
        *([f"{rate:,.0f} tokens/s"] if rate else []),
        *([f"MFU {figures['mfu']:.1%}"] if figures.get("mfu") else []),
        *([f"{duration(stage['seconds_left'])} left"] if stage["seconds_left"] is not None else []),
    ]
    return " · ".join(parts)
