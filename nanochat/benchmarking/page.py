"""What all benchmarks told on one machine: as JSON, to be compared; as one page of Markdown, to be read.

In: benchmarks, run one after another, each in a process of its own. Out: a `Page`. One that fails leaves its error on
the page, and the others are run.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from nanochat.benchmarking.catalogue import Benchmark, Quantity
from nanochat.errors import wrong_input
from nanochat.given_file import given_json
from nanochat.quantity import count, duration, size

FORMAT = 1
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
                lines += ["", "It failed:", "", *(f"    {line}" for line in each.error.splitlines())]
                continue
            lines += ["", "| quantity | value |", "| --- | ---: |"]
            prefix = f"{each.name}: "
            lines += [f"| {found.name.removeprefix(prefix)} | {shown(found)} |" for found in each.quantities]
        return "\n".join(lines) + "\n"


def run(benchmark: Benchmark) -> Outcome:
    """Run it to its end, at any length."""
    load, began = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nanochat-bench-") as folder:
        place = Path(folder) / "found.json"
        words = [*benchmark.arguments, *([str(place)] if benchmark.file else [])]
        made = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
        told = Outcome(
            name=benchmark.name, command=_command(benchmark), seconds=time.monotonic() - began, load=round(load, 2)
        )
        try:
            found = json.loads(place.read_text() if benchmark.file else made.stdout)
            if made.returncode == 0:
                return attrs.evolve(told, quantities=benchmark.quantities(found))
        except (OSError, ValueError, KeyError, TypeError):
            pass  # what it said tells why
    said = (made.stderr.strip() or made.stdout.strip()).splitlines()[-_LAST_LINES:]
    return attrs.evolve(told, error="\n".join([*said, f"exit code {made.returncode}"]))


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
