"""recipes/HOWTO.md and recipes/small/README.md: their recipes are planned as they say, and their files are there."""

import json
import re
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

import attrs
import click
import pytest
from tiny_plugin import CPU

from nanochat.cli.main import COMMANDS, nanochat
from nanochat.errors import CODES
from nanochat.recipe.load import load_recipe
from nanochat.registry import load_registry
from nanochat.running.plan import make_plan
from nanochat.running.store import Store
from nanochat.training.meter import Meter

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


REMEDIES = HOWTO.partition("## When something is wrong")[2].partition("\n## ")[0]


def test_every_command_and_option_that_a_remedy_names_exists() -> None:
    said = re.findall(r"`(nanochat [^`]+)`", REMEDIES)
    assert len(said) >= 4
    options = {option for name in COMMANDS for option in options_of(name)}
    for line in said:
        name, *words = line.split()[1:]
        assert name in COMMANDS, line
        inner = getattr(command_of(name), "commands", {})
        assert not inner or words[0] in inner, line
        given = {word for word in words if word.startswith("--")}
        assert given <= options_of(name, *words[:1] if inner else ()), line
    for option in re.findall(r"`(--[\w-]+)", REMEDIES):  # of whichever command the remedy is about
        assert option in options, option


def test_every_key_component_figure_and_error_that_a_remedy_names_exists() -> None:
    keys, values = words_of(json.loads((ROOT / "recipes" / "schema.json").read_text(encoding="utf-8")))
    figures = {field.name for field in attrs.fields(Meter)} | {attrs.fields(Meter).waits_for.default}
    words = re.findall(r"`(\w+)`", REMEDIES)
    assert len(words) >= 10
    for word in words:
        assert word in keys or word in values or word in figures, word
    settings = re.findall(r"`(\w+ = [^`]+)`", REMEDIES)
    assert settings
    for line in settings:
        ((key, value),) = tomllib.loads(line).items()
        assert value in keys[key], line
    for code in re.findall(r"\bE\d{3}\b", REMEDIES):
        assert code in CODES, code


def command_of(name: str) -> click.Command:
    found = nanochat.get_command(click.Context(nanochat), name)
    assert found is not None
    return found


def options_of(name: str, *inner: str) -> set[str]:
    command = command_of(name)
    for word in inner:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    return {option for parameter in command.params for option in parameter.opts if option.startswith("--")}


def words_of(schema: Any) -> tuple[dict[str, set[Any]], set[Any]]:
    """Each key that may stand anywhere in a recipe, with the words that it may be; and all such words."""
    keys: dict[str, set[Any]] = defaultdict(set)
    values = set[Any]()

    def walk(node: Any, key: str) -> None:
        if isinstance(node, list):
            for part in node:
                walk(part, key)
        elif isinstance(node, dict):
            keys[key].update(node.get("enum", []))
            values.update(node.get("enum", []))
            for name, part in node.get("properties", {}).items():
                walk(part, name)
            for name, part in node.items():
                if name not in ("properties", "enum", "default"):
                    walk(part, key)

    walk(schema, "")
    return keys, values
