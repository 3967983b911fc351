"""What all benchmarks told on one machine: as JSON, to be compared; as one page of Markdown, to be read.

In: benchmarks, run one after another, each in a process of its own. Out: a `Page`. One that fails, or is stopped at its
limit, leaves that on the page, and the others are run.
"""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from nanochat.benchmarking.catalogue import Benchmark, Quantity
from nanochat.errors import wrong_input
from nanochat.given_file import given_json
from nanochat.quantity import count, duration, size

FORMAT = 1
LIMIT_SECONDS = 3600.0
"""Of one benchmark, by default: each takes minutes on a machine that does nothing else."""
_STREAMS = ("stdout", "stderr")
"""Files of what it said."""
_TELLING_SECONDS = 1.0
_LAST_LINES = 8
"""Of what a benchmark that failed has said."""


@attrs.frozen(kw_only=True)
class Outcome:
    """One benchmark's."""

    name: str
    command: str
    seconds: float
    load: float
    """Processes that wanted a processor just before it, by the system's average of a minute."""
    quantities: Sequence[Quantity] = ()
    error: str = ""
    finished: bool = True
    """False where it was stopped at its limit."""


@attrs.frozen(kw_only=True)
class Page:
    """All of them, and where they were run."""

    facts: Mapping[str, str]
    """What it was: time, machine, processors, code, packages, recipe."""
    cores: int
    outcomes: Sequence[Outcome]

    @property
    def quantities(self) -> dict[str, Quantity]:
        """By name."""
        return {each.name: each for outcome in self.outcomes for each in outcome.quantities}

    def json(self) -> str:
        """For `parse`."""
        return json.dumps({"format": FORMAT, **attrs.asdict(self)}, indent=1) + "\n"

    def markdown(self) -> str:
        """A section a benchmark, with the command that anyone can run."""
        lines = ["# Benchmarks", "", *(f"- {name}: {value}" for name, value in self.facts.items())]
        for each in self.outcomes:
            lines += ["", f"## {each.name}", "", f"    {each.command}", ""]
            lines.append(f"{duration(each.seconds)}{_busy(each.load, self.cores)}.")
            if each.error:
                lines += [
                    "",
                    "It failed:" if each.finished else "It did not finish:",
                    "",
                    *(f"    {line}" for line in each.error.splitlines()),
                ]
                continue
            lines += ["", "| quantity | value |", "| --- | ---: |"]
            prefix = f"{each.name}: "
            lines += [f"| {found.name.removeprefix(prefix)} | {shown(found)} |" for found in each.quantities]
        return "\n".join(lines) + "\n"


def run(
    benchmark: Benchmark, *, limit: float = LIMIT_SECONDS, waiting: Callable[[float], None] | None = None
) -> Outcome:
    """Run it to its end, or for `limit` seconds. waiting: is told every second for how many it has run."""
    load, began = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nanochat-bench-") as name:
        folder = Path(name)
        place = folder / "found.json"
        words = [*benchmark.arguments, *([str(place)] if benchmark.file else [])]
        code = _run([sys.executable, *words], folder, limit, waiting)
        output, said = (_read(folder / file) for file in _STREAMS)
        told = Outcome(
            name=benchmark.name, command=_command(benchmark), seconds=time.monotonic() - began, load=round(load, 2)
        )
        try:
            found = json.loads(_read(place) if benchmark.file else output)
            if code == 0:
                return attrs.evolve(told, quantities=benchmark.quantities(found))
        except (ValueError, KeyError, TypeError):
            pass  # what it said tells why
    last = (said.strip() or output.strip()).splitlines()[-_LAST_LINES:]
    end = f"exit code {code}" if code is not None else f"stopped after {duration(limit)}, its limit"
    return attrs.evolve(told, error="\n".join([*last, end]), finished=code is not None)


def _run(words: Sequence[str], folder: Path, limit: float, waiting: Callable[[float], None] | None) -> int | None:
    """Its exit code, None where it reached its limit. However this ends, no process of it is left."""
    with (folder / _STREAMS[0]).open("wb") as output, (folder / _STREAMS[1]).open("wb") as said:
        # In a group of its own: what it started is stopped with it.
        child = subprocess.Popen(words, stdout=output, stderr=said, start_new_session=True)
        began = time.monotonic()
        try:
            while (spent := time.monotonic() - began) < limit:
                if waiting is not None:
                    waiting(spent)
                try:
                    return child.wait(min(_TELLING_SECONDS, limit - spent))
                except subprocess.TimeoutExpired:
                    continue
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _read(path: Path) -> str:
    """Empty where it is not there."""
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def parse(path: Path) -> Page:
    """The page that `Page.json` wrote. InputError E407 for another file, E304 for one that is no JSON."""
    remedy = "give the .json that `nanochat bench all` wrote"
    found = given_json(path, help=remedy)
    try:
        if found["format"] > FORMAT:
            raise wrong_input("E407", f"{path} was written by a newer nanochat (format {found['format']})")
        outcomes = [_outcome(each) for each in found["outcomes"]]
        return Page(facts=found["facts"], cores=found["cores"], outcomes=outcomes)
    except (ValueError, KeyError, TypeError) as fault:
        raise wrong_input("E407", f"{path} is no page of benchmarks: {fault}", help=remedy) from None


def shown(quantity: Quantity) -> str:
    """As a person reads it."""
    value = quantity.value
    match quantity.unit:
        case "bytes":
            return size(value)
        case "bytes/s":
            return f"{size(value)}/s"
        case "share":
            return f"{value:.1%}"
        case "s" if value < 1:
            return f"{1e6 * value:,.1f} µs" if value < 1e-3 else f"{1e3 * value:,.1f} ms"
        case "s":
            return f"{value:,.2f} s"
        case "FLOP/s":
            return count(value, "FLOP/s")
        case "tokens/s":
            return f"{value:,.0f}"
        case _:
            return f"{value:,.4g}"


def improvement(before: Quantity, after: Quantity) -> float | None:
    """How many times as good the second is: above 1 better. None where neither is better, or one is 0."""
    if not before.better or before.value <= 0 or after.value <= 0:
        return None
    ratio = after.value / before.value
    return ratio if before.better == "more" else 1 / ratio


def overall(ratios: Sequence[float]) -> float:
    """Their geometric mean."""
    return statistics.geometric_mean(ratios) if ratios else 1.0


def _busy(load: float, cores: int) -> str:
    """The minute before may have been the benchmark's before it."""
    return f"; in the minute before, {load:.1f} processes wanted the {cores} cores" if load > cores / 4 else ""


def _command(benchmark: Benchmark) -> str:
    """As one types it."""
    ours, rest = ["-m", "nanochat.cli.main"], list(benchmark.arguments)
    if rest[:2] == ours:
        return " ".join(["nanochat", *rest[2:]])
    return " ".join(["python", *rest, *(["FILE"] if benchmark.file else [])])


def _outcome(plain: Mapping[str, Any]) -> Outcome:
    return Outcome(**{**plain, "quantities": [Quantity(**each) for each in plain["quantities"]]})
