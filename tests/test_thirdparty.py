"""An outside distribution, installed beside the project in a fresh environment, takes part like a first-party one.

The environment is made from the working tree as a user would: `pip install . ./plugins`, here through uv for its cache.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ACME = ROOT / "tests/thirdparty/acme"


def call(*command: object, cwd: Path, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NANOCHAT", "VIRTUAL_ENV", "PYTHON"))}
    environment["NANOCHAT_HOME"] = str(home)
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the clone with a fresh environment in `venv` and a copy of the recipe."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.fail("uv is what installs the project; it must be on the PATH")
    folder = tmp_path_factory.mktemp("outside")
    python = folder / "venv/bin/python"
    made = call(uv, "venv", "--python", sys.executable, folder / "venv", cwd=folder, home=folder / "home")
    assert made.returncode == 0, made.stderr
    # The versions the project is tested with, without which the newest of everything would be fetched.
    pins = folder / "pins.txt"
    frozen = call(uv, "pip", "freeze", "--exclude-editable", "--python", sys.executable, cwd=folder, home=folder)
    pins.write_text(frozen.stdout)
    # uv keeps wheels by the files that pyproject.toml names (the Rust sources), and would miss an edit of a Python one.
    anew = [f"--refresh-package={name}" for name in ("nanochat-run", "nanochat-plugins", "nanochat-acme")]
    built = call(
        uv, "pip", "install", *anew, "--python", python, "--constraint", pins, ROOT, ROOT / "plugins", ACME,
        cwd=folder, home=folder / "home",
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    shutil.copy(ACME / "recipe.toml", folder / "acme.toml")
    return folder


def test_its_task_and_optimizer_are_listed_under_its_own_name(outside: Path) -> None:
    listed = call(outside / "venv/bin/nanochat", "plugins", "--json", cwd=outside, home=outside / "home")
    acme = next(plugin for plugin in json.loads(listed.stdout) if plugin["distribution"] == "nanochat-acme")
    offered = {(component["kind"], component["name"]) for component in acme["components"]}
    assert acme["status"] == "ok"
    assert offered == {("task", "opposites"), ("optimizer", "lion")}


def test_a_recipe_that_uses_both_trains_from_a_folder_outside_the_clone(outside: Path) -> None:
    ran = call(outside / "venv/bin/nanochat-run", "acme.toml", cwd=outside, home=outside / "home")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    record = json.loads(next((outside / "home/store").glob("eval-*/record.json")).read_text())
    assert record["figures"]["opposites.accuracy"]["n"] > 0
    again = call(outside / "venv/bin/nanochat-run", "acme.toml", cwd=outside, home=outside / "home")
    assert again.returncode == 0
    assert "nothing to do" in again.stdout


def test_a_recipe_of_the_clone_is_planned_from_outside_it(outside: Path) -> None:
    planned = call(
        outside / "venv/bin/nanochat", "plan", ROOT / "recipes/quickstart.toml", "--json",
        cwd=outside, home=outside / "home",
    )  # fmt: skip
    assert planned.returncode == 0, planned.stderr
    assert '"eval"' in planned.stdout
