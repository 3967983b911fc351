"""recipes/HOWTO.md and recipes/small/README.md: their recipes are planned as they say, and their files are there."""

import json
import re
from pathlib import Path

import pytest
from tiny_plugin import CPU

from nanochat.recipe.load import load_recipe
from nanochat.registry import load_registry
from nanochat.running.plan import make_plan
from nanochat.running.store import Store

ROOT = Path(__file__).parents[1]
HOWTO = (ROOT / "recipes" / "HOWTO.md").read_text(encoding="utf-8")
SMALL = (ROOT / "recipes" / "small" / "README.md").read_text(encoding="utf-8")


def plan_keys(path: Path) -> dict[str, str]:
    registry = load_registry()
    recipe = load_recipe(path, machine=CPU, registry=registry)
    return {stage.name: stage.key for stage in make_plan(recipe, CPU, Store(), registry).stages}


@pytest.mark.parametrize("number, name", [(0, "ada"), (1, "letters")])
def test_an_identity_and_an_ability_are_learnt_on_top_of_the_quickstarts_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, name: str
) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    (said,) = re.findall(r"```json\n(.*?)```", HOWTO, re.DOTALL)
    assert [message["role"] for message in json.loads(said)["messages"]] == ["user", "assistant"]
    (tmp_path / "ada.jsonl").write_text(said)
    text = re.findall(r"```toml\n(.*?)```", HOWTO, re.DOTALL)[number]
    recipe = tmp_path / f"{name}.toml"
    recipe.write_text(text.replace("recipes/quickstart.toml", str(ROOT / "recipes" / "quickstart.toml")))
    before, after = plan_keys(ROOT / "recipes" / "quickstart.toml"), plan_keys(recipe)
    assert [stage for stage in before if before[stage] != after[stage]] == ["sft", "eval"]


@pytest.mark.parametrize("text, folder", [(HOWTO, "recipes"), (SMALL, "recipes/small")], ids=["howto", "small"])
def test_every_file_that_is_named_is_there(text: str, folder: str) -> None:
    for target in re.findall(r"\]\(([^)h#][^)#]*)", text):
        assert (ROOT / folder / target).exists(), target
    for target in re.findall(r"`((?:nanochat|recipes)/[\w/.]+)`", text):
        assert (ROOT / target).exists(), target
