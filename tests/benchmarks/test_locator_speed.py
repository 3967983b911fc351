"""What places cost: the locator beside tomllib on the same text. The bound is 50 ms for 1,000 lines.

uv run pytest tests/benchmarks/test_locator_speed.py --benchmark-enable --benchmark-only
"""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nanochat.recipe.locator import locate

RECIPES = Path(__file__).parents[2] / "recipes"


def thousand_lines() -> str:
    """The speedrun's text under new stage names, again and again."""
    text = (RECIPES / "speedrun.toml").read_text(encoding="utf-8")
    _, _, stages = text.partition("[stages.tok]")
    copies = [f"[stages.tok]{stages}".replace("[stages.", f"[stages.copy{number}_") for number in range(20)]
    lines = "\n".join(copies).splitlines()[:1000]
    assert len(lines) == 1000
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("read", [tomllib.loads, locate], ids=["tomllib", "locate"])
def test_a_thousand_lines_of_recipes(benchmark: Any, read: Callable[[str], Any]) -> None:
    benchmark(read, thousand_lines())


@pytest.mark.parametrize("read", [tomllib.loads, locate], ids=["tomllib", "locate"])
def test_a_thousand_lines_of_inline_tables(benchmark: Any, read: Callable[[str], Any]) -> None:
    benchmark(read, "".join(f'k{n} = {{a = 1, b.c = "x", d = [1, 2, {{e = "é"}}]}} # c\n' for n in range(1000)))
