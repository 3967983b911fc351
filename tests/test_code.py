"""The code behind a stage: which modules count, and that a change of them is a warning and no new key."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from test_running import LOOSE, RECIPE, House, enter, wait_for_step
from tiny_plugin import write

from nanochat import builtin
from nanochat.hooks import hookimpl
from nanochat.recipe.load import load_recipe
from nanochat.registry import Registry, load_registry
from nanochat.running.code import changed_modules, code_digests

PACKAGE = {
    "__init__.py": "",
    "stage.py": "import os, json as j\nfrom .parts import one as first, two\nfrom . import (\n    alone,  # a, b\n)\n",
    "parts/__init__.py": "from ..deep.er import thing\n",
    "parts/one.py": "import another_package.thing\n",
    "parts/two.py": "def f():\n    from codeplug.late import x\n",
    "deep/__init__.py": "",
    "deep/er.py": "from nanochat.errors import CODES\nfrom nanochat.training.loop import train\n",
    "late.py": "x = 1\n",
    "alone.py": "",
    "never.py": "",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package `codeplug`, importable and not imported."""
    folder = tmp_path / "site" / "codeplug"
    for name, text in PACKAGE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder


def digests(tmp_path: Path) -> dict[str, str]:
    class Plugin:
        @staticmethod
        @hookimpl
        def register_stages(registry: Any) -> None:
            registry.add("own", build="codeplug.stage:run", config="nanochat.stages.tokenizer_config:TokenizerConfig")

        @staticmethod
        @hookimpl
        def register_launchers(registry: Any) -> None:
            for name in ("local", "torchrun"):
                registry.add(name, build="tiny_plugin:Sums")

        @staticmethod
        @hookimpl
        def register_sources(registry: Any) -> None:
            registry.add("words", build="tiny_plugin:Sums")

    registry = Registry()
    registry.register(builtin, name="nanochat", distribution="nanochat-run")
    registry.register(Plugin, name="own")
    path = write(tmp_path, 'format = 1\n[stages.a]\nuse = "own"\n[stages.a.data.x]\nuse = "words"\n')
    recipe = load_recipe(path, registry=registry)
    return code_digests(recipe.stages["a"], recipe, registry)


def test_the_code_of_a_stage_is_what_builds_it_and_all_that_this_imports(package: Path, tmp_path: Path) -> None:
    found = digests(tmp_path)
    own = {module.removeprefix("codeplug.") for module in found if module.startswith("codeplug.")}
    assert own == {"stage", "parts", "parts.one", "parts.two", "deep", "deep.er", "late", "alone"}
    assert {"tiny_plugin", "nanochat.training.loop", "nanochat.data.loader"} <= set(found)
    assert not any(module.startswith(("nanochat.errors", "os", "another_package")) for module in found)
    assert not any(module.startswith("codeplug") for module in sys.modules), "it was imported"


def test_a_changed_file_is_named_and_one_that_is_not_imported_is_not(package: Path, tmp_path: Path) -> None:
    before = digests(tmp_path)
    (package / "never.py").write_text("y = 2\n")
    (package / "parts" / "two.py").write_text("def f():\n    return 1\n")
    assert changed_modules(before, digests(tmp_path)) == ("codeplug.late", "codeplug.parts.two")


def house_of_its_own(folder: Path, patch: pytest.MonkeyPatch) -> House:
    """A house whose plugin is a copy, to be edited."""
    enter(folder, patch)
    plugins = folder / "loose"
    plugins.mkdir()
    (plugins / "counting.py").write_text((LOOSE / "counting.py").read_text())
    patch.setenv("NANOCHAT_PLUGINS_DIR", str(plugins))
    house = House(folder, plugins=plugins)
    house.write(RECIPE)
    return house


def test_a_result_whose_code_has_changed_is_reused_with_a_warning_and_a_raised_revision_is_a_new_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = house_of_its_own(tmp_path, monkeypatch)
    source = house.plugins / "counting.py"
    text = source.read_text()
    house.write(RECIPE[: RECIPE.index("[stages.two]")])
    assert house.run()[0] == 0
    _, quiet = house.call("plan", str(house.recipe))
    assert "warning" not in quiet
    source.write_text(text.replace("Count `steps` steps", "Count the steps"))
    code, said = house.call("plan", str(house.recipe))
    assert code == 0
    assert "warning: one: the code behind one-" in said
    assert "no revision was raised: nanochat_loose_counting. If results change, --fresh one" in said
    assert re.search(r"^one +reuse ", said, re.MULTILINE)
    assert "warning: one: the code" in house.run()[1]
    source.write_text(text.replace('config=f"{HERE}:CountConfig")', 'config=f"{HERE}:CountConfig", revision=2)'))
    _, said = house.call("plan", str(house.recipe))
    assert "revision 1 → 2" in said
    assert "warning" not in said


def test_the_model_that_a_stage_goes_on_from_is_behind_it_too() -> None:
    registry = load_registry()
    recipe = load_recipe(Path(__file__).parents[1] / "recipes" / "quickstart.toml", registry=registry)
    behind = {name: set(code_digests(stage, recipe, registry)) for name, stage in recipe.stages.items()}
    for name in ("base", "sft", "eval"):
        assert {"nanochat.model.gpt", "nanochat.model.attention"} <= behind[name], name
    assert "nanochat.model.gpt" not in behind["tok"]
    assert "nanochat.inference.engine" in behind["eval"]


def test_what_was_begun_with_other_code_is_known_for_it_when_it_went_on_and_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = house_of_its_own(tmp_path, monkeypatch)
    source = house.plugins / "counting.py"
    text = source.read_text()
    house.write(RECIPE[: RECIPE.index("[stages.two]")])
    assert house.run("--set", "stages.one.checkpoint_every=1", "--set", "stages.one.trouble=bug")[0] == 1
    source.write_text(text + "# edited\n")
    code, output = house.run()
    assert (code, "one: goes on from step 1" in output) == (0, True), output
    assert "warning: one: the code behind one-" in house.call("plan", str(house.recipe))[1]


def test_code_that_is_edited_while_an_earlier_stage_runs_is_what_the_next_one_is_made_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = house_of_its_own(tmp_path, monkeypatch)
    source = house.plugins / "counting.py"
    text = source.read_text()
    process = house.start("run", str(house.recipe), "--set", "stages.one.pause=0.5", "--until", "two")
    wait_for_step(house, "one", process)
    source.write_text(text + "# edited\n")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    said = house.call("plan", str(house.recipe))[1]
    assert ("warning: one: " in said, "warning: two: " in said) == (True, False), said
