"""What README.md shows is what is there: its recipes load, its plugin is the one that is tested, its commands exist."""

import gzip
import importlib
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from nanochat.cli.main import COMMANDS
from nanochat.recipe.load import load_recipe
from nanochat.registry import load_registry
from nanochat.scaffold.distribution import make_distribution, parse_name

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    """The code block that holds a text."""
    found = [b for b in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if containing in b]
    assert len(found) == 1, containing
    return found[0]


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """A copy of the recipes, beside which a user's files stand."""
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    (tmp_path / "recipes/my_texts").mkdir()
    with gzip.open(tmp_path / "recipes/my_texts/notes.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"text": f"This is note number {number}."}) + "\n" for number in range(200))
    return tmp_path / "recipes"


def test_the_recipe_of_the_language_screen_loads(recipes: Path) -> None:
    (recipes / "mine.toml").write_text(block("toml", 'name = "mine"'))
    loaded = load_recipe(recipes / "mine.toml")
    assert list(loaded.stages) == ["tok", "base", "sft", "eval"]
    assert loaded.stages["base"].config.model.config.depth == 6
    assert set(loaded.stages["base"].config.data) == {"docs", "stories", "mine"}


@pytest.fixture
def opposites(tmp_path: Path) -> Path:
    """What `nanochat plugins new opposites` writes."""
    folder = tmp_path / "opposites"
    make_distribution(parse_name("opposites"), "task", folder)
    return folder


def test_the_plugin_it_shows_is_what_the_command_writes(opposites: Path) -> None:
    console = block("console", "plugins new opposites").splitlines()
    written = sorted(str(path.relative_to(opposites)) for path in opposites.rglob("*") if path.is_file())
    assert [line.strip() for line in console[2 : console.index("next:")]] == written
    assert block("python", "class Opposites(Task)") == (opposites / "nanochat_opposites/task.py").read_text()
    assert block("python", "def register_tasks") in (opposites / "nanochat_opposites/__init__.py").read_text()
    assert block("python", "check_task(Opposites())") in (opposites / "tests/test_task.py").read_text()


def test_the_recipe_that_uses_it_loads(recipes: Path, opposites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(opposites))
    registry = load_registry()
    registry.register(importlib.import_module("nanochat_opposites"), name="opposites")
    (recipes / "opposites.toml").write_text(block("toml", 'name = "opposites"'))
    loaded = load_recipe(recipes / "opposites.toml", registry=registry)
    assert loaded.stages["sft"].config.data["opposites"].use == "opposites"
    for name in [name for name in sys.modules if name.partition(".")[0] == "nanochat_opposites"]:
        del sys.modules[name]


def test_every_command_it_lists_exists_and_none_is_left_out() -> None:
    table = README.split("## The commands")[1].split("##")[0]
    shown = set(re.findall(r"`(?:nanochat )?([a-z]+)[^`]*`", "\n".join(re.findall(r"^\| (.*?) \|", table, re.M))))
    assert shown - {"nanochat"} == set(COMMANDS) - {"run"}
    assert "`nanochat-run RECIPE`" in table


def test_every_folder_and_file_it_points_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)h][^)]*)\)", README):
        assert (ROOT / target).exists(), target


def test_every_fault_of_the_table_has_tests_that_there_are() -> None:
    table = README.partition("| fault | what happens | tests |")[2].partition("</details>")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    assert len(rows) > 20
    for fault, what, tests in rows[1:]:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", tests)
        assert fault and what and named
        for file, name in named:
            written = (ROOT / "tests" / file).read_text(encoding="utf-8")
            assert f"\ndef {name}(" in written or f"\nasync def {name}(" in written, (fault, file, name)
