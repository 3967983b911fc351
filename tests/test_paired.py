"""Two runs compared example by example: p against values counted otherwise, and what is paired with what."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.running.paired import bootstrap, compare, mcnemar


def lay_down(folder: Path, name: str, lines: list[dict[str, Any]]) -> Path:
    """Lines by turns in the files of two ranks."""
    (folder / "examples").mkdir(parents=True, exist_ok=True)
    for rank in range(2):
        text = "".join(json.dumps(line) + "\n" for line in lines[rank::2])
        (folder / "examples" / f"{name}-{rank}.jsonl").write_text(text)
    return folder


def line(index: int, score: float, task: str = "t", question: str = "") -> dict[str, Any]:
    return {"task": task, "index": index, "score": score, "question": question or f"{task}{index}?"}


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_probability_of_coins_that_fall_as_unevenly(gained: int, lost: int) -> None:
    n = gained + lost
    # Counted over all outcomes of n coins, by the number of heads: those at least as far from the middle.
    far = abs(gained - lost)
    expected = sum(math.comb(n, heads) for heads in range(n + 1) if abs(2 * heads - n) >= far) / 2**n
    assert mcnemar(gained, lost) == pytest.approx(expected)


def test_mcnemar_of_many_pairs_is_a_number() -> None:
    # Against the normal approximation with continuity correction, which is good here.
    assert mcnemar(5200, 4800) == pytest.approx(math.erfc((400 - 1) / math.sqrt(10_000) / math.sqrt(2)), rel=1e-2)
    assert 0 <= mcnemar(9000, 1000) < 1e-300


def test_the_bootstrap_agrees_with_the_normal_approximation_where_that_holds() -> None:
    rng = random.Random(3)
    differences = [rng.gauss(0.08, 1.0) for _ in range(600)]
    mean = sum(differences) / 600
    error = math.sqrt(sum((d - mean) ** 2 for d in differences)) / 600
    assert bootstrap(differences) == pytest.approx(math.erfc(abs(mean) / error / math.sqrt(2)), abs=0.02)
    assert bootstrap([0.0] * 10) == 1.0
    assert bootstrap(differences) == bootstrap(differences)


def test_examples_are_paired_by_task_and_number_and_flips_are_named(tmp_path: Path) -> None:
    a = lay_down(tmp_path / "a", "core", [line(i, float(i < 4), t) for t in ("x", "y") for i in range(8)])
    b = lay_down(
        tmp_path / "b", "core", [line(i, float(i in (0, 1, 6)), t) for t in ("y", "x") for i in range(8)][::-1]
    )
    whole, x, y = compare(a, b)
    assert (whole.name, x.name, y.name) == ("core", "core.x", "core.y")
    assert (whole.n, whole.gained, whole.lost, whole.means) == (16, 2, 4, (0.5, 0.375))
    assert whole.p == pytest.approx(mcnemar(2, 4))
    assert [(flip.task, flip.index, flip.scores) for flip in x.flips] == [
        ("x", 2, (1.0, 0.0)),
        ("x", 3, (1.0, 0.0)),
        ("x", 6, (0.0, 1.0)),
    ]
    assert x.flips[0].question == "x2?"
    differences = [0, 0, -1, -1, 0, 0, 1, 0] * 2
    spread = sum((d + 0.125) ** 2 for d in differences) / 16
    assert whole.standard_error == pytest.approx(math.sqrt(spread / 16))


def test_examples_that_ask_something_else_are_no_pair(tmp_path: Path) -> None:
    a = lay_down(tmp_path / "a", "core", [line(0, 1.0), line(1, 0.0), line(2, 0.0)])
    b = lay_down(tmp_path / "b", "core", [line(0, 1.0), line(1, 0.0, question="another")])
    (found,) = compare(a, b)
    assert (found.n, found.unpaired) == (1, 2)


def test_scores_in_between_are_compared_by_a_bootstrap(tmp_path: Path) -> None:
    a = lay_down(tmp_path / "a", "task", [line(i, 0.5) for i in range(12)])
    b = lay_down(tmp_path / "b", "task", [line(i, 0.75) for i in range(12)])
    (found,) = compare(a, b)
    assert found.test.startswith("paired bootstrap")
    assert found.p < 0.001


def test_where_less_is_better_a_lower_score_is_a_gain(tmp_path: Path) -> None:
    less = {"lower_is_better": True}
    a = lay_down(tmp_path / "a", "bpb", [line(i, 2.0) | less for i in range(12)])
    b = lay_down(tmp_path / "b", "bpb", [line(i, 1.5 if i else 2.5) | less for i in range(12)])
    (found,) = compare(a, b)
    assert (found.gained, found.lost) == (11, 1)


def test_lines_without_a_number_or_a_score_are_left_out(tmp_path: Path) -> None:
    for side in ("a", "b"):
        lay_down(tmp_path / side, "samples", [{"prompt": "x", "completion": "y"}])
    assert compare(tmp_path / "a", tmp_path / "b") == []
