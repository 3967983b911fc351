"""Two evaluations of the same examples, compared example by example.

In: the folders of two stages' results, with their examples (examples/EVAL-RANK.jsonl). Out: for each
evaluation, and each task of it, what became better, what worse, and how likely chance alone would do as much: McNemar's
exact test where an example is right or wrong, else a paired bootstrap. An evaluation whose lines say no `index` and
`score` is left out; one of which less is better says `lower_is_better`. Not here: how they are printed.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from nanochat.running.json_file import read_lines

RESAMPLES = 10_000
_AT_ONCE = 1 << 22
"""Numbers of a bootstrap that are there at a time."""

Key = tuple[str, int]
"""An example's task and its number there."""


@attrs.frozen(kw_only=True)
class Flip:
    """An example that was scored differently."""

    task: str
    index: int
    scores: tuple[float, float]
    question: str


@attrs.frozen(kw_only=True)
class Paired:
    """What both have measured of an evaluation, or of one of its tasks."""

    name: str
    """EVAL or EVAL.TASK."""
    n: int
    """Examples that both have."""
    unpaired: int
    """Examples that one of them lacks, or that ask something else in it."""
    means: tuple[float, float]
    standard_error: float
    """Of the difference of the means, from the differences of the pairs."""
    gained: int
    """Examples whose score is better in the second."""
    lost: int
    test: str
    p: float
    """Two-sided: how often chance gives a difference like this or a larger one where there is none."""
    flips: Sequence[Flip]


def compare(first: Path, second: Path) -> list[Paired]:
    """Every evaluation that both result folders hold, each as a whole and, where it has several, by its tasks."""
    a, b = examples_in(first), examples_in(second)
    found: list[Paired] = []
    for name in (name for name in a if name in b):
        found += _paired(name, a[name], b[name])
    return found


def examples_in(folder: Path) -> dict[str, dict[Key, Mapping[str, Any]]]:
    """Evaluation → example → its line, of all ranks."""
    found: dict[str, dict[Key, Mapping[str, Any]]] = {}
    for path in sorted((folder / "examples").glob("*.jsonl")):
        for line in read_lines(path):
            if isinstance(line.get("index"), int) and isinstance(line.get("score"), int | float):
                own = found.setdefault(path.stem.rpartition("-")[0], {})
                own[str(line.get("task", "")), line["index"]] = line
    return found


def _paired(name: str, a: Mapping[Key, Mapping[str, Any]], b: Mapping[Key, Mapping[str, Any]]) -> Iterator[Paired]:
    both = [key for key in a if key in b and _asked(a[key]) == _asked(b[key])]
    if not both:
        return
    yield _compared(name, both, len({*a, *b}) - len(both), a, b)
    tasks = list(dict.fromkeys(task for task, _ in both))
    for task in sorted(tasks) if len(tasks) > 1 else []:
        own = [key for key in both if key[0] == task]
        everyone = {key for key in (*a, *b) if key[0] == task}
        yield _compared(f"{name}.{task}", own, len(everyone) - len(own), a, b)


def _asked(line: Mapping[str, Any]) -> Any:
    """What makes two lines the same example."""
    messages = line.get("messages")
    return line.get("question", messages[:-1] if isinstance(messages, list) else None)


def _compared(
    name: str,
    keys: Sequence[Key],
    unpaired: int,
    a: Mapping[Key, Mapping[str, Any]],
    b: Mapping[Key, Mapping[str, Any]],
) -> Paired:
    pairs = [(float(a[key]["score"]), float(b[key]["score"])) for key in keys]
    n = len(pairs)
    means = (sum(x for x, _ in pairs) / n, sum(y for _, y in pairs) / n)
    gained, lost = sum(y > x for x, y in pairs), sum(y < x for x, y in pairs)
    if all(a[key].get("lower_is_better") for key in keys):
        gained, lost = lost, gained
    differences = [y - x for x, y in pairs]
    mean = means[1] - means[0]
    binary = all(score in (0.0, 1.0) for pair in pairs for score in pair)
    return Paired(
        name=name,
        n=n,
        unpaired=unpaired,
        means=means,
        standard_error=math.sqrt(sum((d - mean) ** 2 for d in differences)) / n,
        gained=gained,
        lost=lost,
        test="McNemar, exact" if binary else f"paired bootstrap, {RESAMPLES:,} resamples",
        p=mcnemar(gained, lost) if binary else bootstrap(differences),
        flips=[
            Flip(task=key[0], index=key[1], scores=pair, question=_question(a[key]))
            for key, pair in sorted(zip(keys, pairs, strict=True))
            if pair[0] != pair[1]
        ],
    )


def _question(line: Mapping[str, Any]) -> str:
    messages = line.get("messages")
    return str(line.get("question") or (messages[0].get("content") if isinstance(messages, list) else ""))


def mcnemar(gained: int, lost: int) -> float:
    """The two-sided exact test: of so many pairs that differ, each would have gone either way like a coin."""
    n, less = gained + lost, min(gained, lost)
    tail, ways = (
        0,
        1,
    )  # the binomial coefficient of n over k, each from the one before: by itself it takes a hundredfold
    for k in range(less + 1):
        tail += ways
        ways = ways * (n - k) // (k + 1)
    p: float = 2 * tail / 2**n
    return min(1.0, p)


def bootstrap(differences: Sequence[float]) -> float:
    """The two-sided paired bootstrap: how often resampled pairs' mean difference lies on the other side of 0, twice.

    The generator's seed is fixed, so that the same examples always give the same p (Efron and Tibshirani 1993).
    """
    import numpy as np

    values, rng = np.asarray(differences), np.random.default_rng(0)
    if not values.any():
        return 1.0
    n, below, above = len(values), 0, 0
    chunk = max(1, _AT_ONCE // n)
    for begin in range(0, RESAMPLES, chunk):
        count = min(chunk, RESAMPLES - begin)
        means = values[rng.integers(0, n, size=(count, n))].mean(axis=1)
        below += int((means <= 0).sum())
        above += int((means >= 0).sum())
    return float(min(1.0, 2 * (min(below, above) + 1) / (RESAMPLES + 1)))
