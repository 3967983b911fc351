"""What a sweep varies: keys of a recipe and the values they take, and the trials that come of them.

In: words as typed, `KEY=V1,V2,…` or `KEY=LOW..HIGH`, and what the recipe's `[sweep]` says. Out: axes and ranges, and
trials as lists of changes. Whether a recipe has such keys is asked by whoever loads it. InputError E407 for what is no
axis.
"""

import itertools
import math
import random
import re
from collections.abc import Iterable, Sequence

import attrs

from nanochat.errors import InputError, did_you_mean, wrong_input
from nanochat.recipe.axis import OF_NO_STAGE, Axis, Change, Range, is_of_no_stage
from nanochat.recipe.source import parse_key
from nanochat.recipe.sweep_table import VARIANT, SweepTable

SEED = "seed"
"""The key over whose values results are averaged."""
QUOTES = "\"'"
EXAMPLE = "for example --grid stages.base.model.depth=4,6,8"
_RANGE = re.compile(r"(?P<low>[-+0-9.eE]+)\.\.(?P<high>[-+0-9.eE]+)\Z")


def grid_axes(arguments: Iterable[str]) -> list[Axis]:
    """The axes of `--grid` arguments. InputError with all that is wrong with them."""
    found, faults = list[Axis](), list[InputError]()
    for argument in arguments:
        try:
            found.append(_axis(argument, {axis.key for axis in found}))
        except InputError as fault:
            faults.append(fault)
    _raise(faults)
    return found


def random_ranges(arguments: Iterable[str]) -> list[Range]:
    """The ranges of `--random` arguments. InputError with all that is wrong with them."""
    found, faults = list[Range](), list[InputError]()
    for argument in arguments:
        key, _, text = argument.partition("=")
        match = _RANGE.match(text)
        try:
            low, high = (float(match["low"]), float(match["high"])) if match else (math.nan, math.nan)
        except ValueError:
            low = high = math.nan
        if not (key and math.isfinite(low) and math.isfinite(high) and low < high):
            help_text = "write KEY=LOW..HIGH, for example --random stages.base.optim.matrices.lr=0.005..0.05"
            faults.append(wrong_input("E407", f"--random {argument} is no range of numbers", help=help_text))
            continue
        _check_key("--random", argument, key)
        whole = bool(match) and not re.search("[.eE]", match["low"] + match["high"]) if match else False
        found.append(Range(key=key, low=low, high=high, whole=whole))
    _raise(faults)
    return found


def over(table: SweepTable, axes: Sequence[Axis], ranges: Sequence[Range]) -> SweepTable:
    """A recipe's `[sweep]` with what the command line says, which replaces the values of the same key, or adds a key.

    `--grid variant=A,B` chooses among the variants; a name with a comma stands in quotes. InputError E407 where there
    is none of that name.
    """
    typed = {axis.key for axis in axes} | {found.key for found in ranges}
    given = {axis.key: _chosen(axis, table) for axis in axes}
    kept = [given.pop(axis.key, axis) for axis in table.axes if axis.key in given or axis.key not in typed]
    return attrs.evolve(
        table,
        axes=[*kept, *given.values()],
        ranges=[*(found for found in table.ranges if found.key not in typed), *ranges],
    )


def _chosen(axis: Axis, table: SweepTable) -> Axis:
    """The axis as typed; of variants, those of the recipe that it names."""
    if axis.key != VARIANT:
        return axis
    known = {_name(change): change for there in table.axes if there.key == VARIANT for change in there.changes}
    names = [_name(change) for change in axis.changes]
    names = [name[1:-1] if name[0] == name[-1] in QUOTES else name for name in names]  # so that a comma may stand in it
    names = list(dict.fromkeys(names))
    for name in names:
        if name not in known:
            near = did_you_mean(name, list(known)) or f"its variants are {', '.join(known) or 'none'}"
            raise wrong_input("E407", f"--grid: the recipe has no variant `{name}`", help=near)
    return Axis(VARIANT, [known[name] for name in names])


def _name(variant: Change) -> str:
    return variant.text.removeprefix(f"{VARIANT}=")


def trials(axes: Sequence[Axis], ranges: Sequence[Range], draws: int, seed: int) -> list[list[Change]]:
    """Each combination of the axes' values, once for each draw from the ranges; the last axis varies fastest.

    The draws follow from `seed` alone, and are the same for every combination: what is compared differs in one thing.
    """
    generator = random.Random(seed)
    drawn = [[one.draw(generator) for one in ranges] for _ in range(draws if ranges else 1)]
    combinations = itertools.product(*(axis.changes for axis in axes))
    return [[*combination, *draw] for combination in combinations for draw in drawn]


def number_of_trials(axes: Sequence[Axis], ranges: Sequence[Range], draws: int) -> int:
    """How many there are, without making them."""
    return math.prod(len(axis.changes) for axis in axes) * (draws if ranges else 1)


def in_short(settings: Iterable[tuple[str, str]]) -> str:
    """What a trial is called on the screen, `depth=4 seed=1`: of a key the last part, of a variant its name alone."""
    return " ".join(value if key == VARIANT else f"{key.rpartition('.')[2]}={value}" for key, value in settings)


def _axis(argument: str, taken: set[str]) -> Axis:
    key, equals, text = argument.partition("=")
    values = list(dict.fromkeys(split_values(text)))
    if not (key and equals and values) or "" in values:
        raise wrong_input("E407", f"--grid {argument} has no values", help=f"write KEY=V1,V2: {EXAMPLE}")
    _check_key("--grid", argument, key)
    if key in taken:
        raise wrong_input("E407", f"--grid {argument}: `{key}` has its values already", help="give each key once")
    return Axis(key, [Change(text=f"{key}={value}") for value in values])


def _check_key(option: str, argument: str, key: str) -> None:
    """InputError E407 for a key whose values make no difference."""
    path = parse_key(key)
    if path is not None and is_of_no_stage(path):
        raise wrong_input("E407", f"{option} {argument}: `{key}` {OF_NO_STAGE}", help=EXAMPLE)


def check_overrides(overrides: Sequence[str], table: SweepTable) -> None:
    """InputError E407 where `--set` gives a value to a key that is varied: each trial has another."""
    varied = [*(axis.key for axis in table.axes), *(found.key for found in table.ranges)]
    paths = [parse_key(key) for key in varied]
    for override in overrides:
        key, _, value = override.partition("=")
        path = parse_key(key.strip())
        if path is not None and path in paths:
            message = f"--set {override}: `{key.strip()}` is varied, so each variant has a value of its own"
            raise wrong_input("E407", message, help=f"leave it out; for this value alone: --grid {key.strip()}={value}")


def split_values(text: str) -> list[str]:
    """The parts between commas that stand in no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in QUOTES:
            quote = character
        else:
            depth += (character in "[{") - (character in "]}")
        if character == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts] if text.strip() else []


def _raise(faults: Sequence[InputError]) -> None:
    if faults:
        raise InputError([found for fault in faults for found in fault.diagnostics])
