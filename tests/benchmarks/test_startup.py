"""How soon the commands that import no torch answer, beside the interpreter's own start in the same run.

uv run pytest tests/benchmarks/test_startup.py --benchmark-enable --benchmark-only
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.toml"))


def start(benchmark: Any, *command: str, site: Path | None = None) -> None:
    environment = {**os.environ, "PYTHONPATH": str(site or "")}

    def run() -> None:
        subprocess.run(command, check=True, capture_output=True, env=environment)

    benchmark.pedantic(run, rounds=10, warmup_rounds=1)


def test_the_interpreter_alone(benchmark: Any) -> None:
    start(benchmark, sys.executable, "-c", "pass")


def test_help(benchmark: Any) -> None:
    start(benchmark, str(BIN / "nanochat"), "--help")


def test_help_with_fifty_plugins(benchmark: Any, fifty: Path) -> None:
    start(benchmark, str(BIN / "nanochat"), "--help", site=fifty)


@pytest.mark.parametrize("recipe", RECIPES)
def test_plan_with_fifty_plugins(benchmark: Any, recipe: str, fifty: Path) -> None:
    start(benchmark, str(BIN / "nanochat"), "plan", str(ROOT / f"recipes/{recipe}.toml"), site=fifty)


@pytest.mark.parametrize("recipe", RECIPES)
def test_plan(benchmark: Any, recipe: str) -> None:
    start(benchmark, str(BIN / "nanochat"), "plan", str(ROOT / f"recipes/{recipe}.toml"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_show_with_origins(benchmark: Any, recipe: str) -> None:
    start(benchmark, str(BIN / "nanochat"), "show", "--origin", str(ROOT / f"recipes/{recipe}.toml"))
