"""Every benchmark there is: the command that runs it, and the quantities that its JSON tells.

In: a recipe. Out: `Benchmark`s, and of what each of them printed a list of `Quantity`. Not here: running them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs

Found = Any
"""What a benchmark's JSON says."""


@attrs.frozen
class Quantity:
    """One number that was measured."""

    name: str
    value: float
    unit: Literal["tokens/s", "FLOP/s", "bytes/s", "s", "bytes", "share", "times"]
    better: Literal["more", "less", ""] = ""
    """Which of two is the better one; "" for what the machine can do, and for counts."""


@attrs.frozen(kw_only=True)
class Benchmark:
    """A command, and how its JSON is read."""

    name: str
    arguments: Sequence[str]
    """Of Python, which begin with `-m`."""
    read: Callable[[Found], Iterator[Quantity]]
    file: bool = False
    """Whether JSON is written to the file named after these arguments, rather than to stdout."""

    def quantities(self, found: Found) -> list[Quantity]:
        """Each named after the benchmark."""
        return [attrs.evolve(each, name=f"{self.name}: {each.name}") for each in self.read(found)]


def benchmarks(recipe: Path, settings: Sequence[str], tests: Path | None, *, cpu: bool) -> list[Benchmark]:
    """All for a recipe with `--set` arguments; tests: the folder of those that pytest runs, where it is there.

    cpu: measure weights of 8 bits too, which the engine has on a CPU.
    """
    ours = ["-m", "nanochat.cli.main", "bench"]
    of_recipe = [str(recipe), *(word for setting in settings for word in ("--set", setting)), "--json"]
    found = [
        Benchmark(name="train", arguments=[*ours, "train", *of_recipe, "--operators"], read=_training),
        Benchmark(name="infer", arguments=[*ours, "infer", *of_recipe], read=_answering),
        *([Benchmark(name="infer-int8", arguments=[*ours, "infer", *of_recipe, "--int8"], read=_answering)] * cpu),
        Benchmark(name="serve", arguments=[*ours, "serve", *of_recipe], read=_answering),
        Benchmark(name="resume", arguments=[*ours, "resume", "--kills", "5", "--json"], read=_resuming),
    ]
    for file in sorted(tests.glob("test_*.py")) if tests else ():
        words = ["-m", "pytest", str(file), "-n", "0", "--benchmark-enable", "--benchmark-only", "--benchmark-json"]
        name = file.stem.removeprefix("test_").replace("_", "-")
        found.append(Benchmark(name=name, arguments=words, read=_timed, file=True))
    return found


def _training(found: Mapping[str, Any]) -> Iterator[Quantity]:
    first = found["before_seconds"] + found["built_seconds"] + found["first_step_seconds"]
    yield Quantity("tokens a second", found["tokens_per_second"], "tokens/s", "more")
    yield Quantity("of the matmul peak", found["of_peak"], "share", "more")
    yield Quantity("matmul peak", found["peak_flops"], "FLOP/s")
    yield Quantity("memory bandwidth", found["bandwidth"], "bytes/s")
    yield Quantity("start to the end of the first step", first, "s", "less")
    yield Quantity("peak memory", found["peak_memory_bytes"], "bytes", "less")
    for part, share in found["parts"].items():
        yield Quantity(f"a step's {part}", share * found["step_seconds"], "s", "less")


def _answering(found: Sequence[Mapping[str, Any]]) -> Iterator[Quantity]:
    """Of `infer`, and of `serve`, which tells more of some and less of other things."""
    for each in found:
        at = f"at {each.get('rows') or each['clients']}"
        yield Quantity(f"tokens a second {at}", each["tokens_per_second"], "tokens/s", "more")
        for key, words in (("of_bandwidth", "of the bandwidth"), ("of_engine", "of the engine's rate")):
            if each.get(key) is not None:
                yield Quantity(f"{words} {at}", each[key], "share", "more")
        if "second_turn" in each:
            yield Quantity(f"second turn over a new one {at}", each["second_turn"], "share", "less")
        for key, words in (("first", "first token"), ("between", "between tokens"), ("health", "/health")):
            for rank in ("p50", "p99") if key in each else ():
                yield Quantity(f"{words}, {rank}, {at}", each[key][rank], "s", "less")
        yield Quantity(f"cancelled to free {at}", each["cancel_seconds"], "s", "less")
        yield Quantity(f"memory {at}", each["memory_bytes"], "bytes", "less")


def _resuming(found: Mapping[str, Any]) -> Iterator[Quantity]:
    yield Quantity("differences after kills", found["differences"], "times", "less")


def _timed(found: Mapping[str, Any]) -> Iterator[Quantity]:
    """What pytest-benchmark writes: the median of each, and what the benchmark itself says beside it."""
    for each in found["benchmarks"]:
        name = each["name"].removeprefix("test_").replace("_", " ")
        yield Quantity(name, each["stats"]["median"], "s", "less")
        for key, value in each["extra_info"].items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield Quantity(f"{name}, {key}", value, "times")
