"""The lock: the same values and keys elsewhere, refused where plugins or data are others."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tiny_plugin import CPU, EIGHT_GPUS, TINY, load, write

from nanochat.errors import InputError
from nanochat.recipe.lock import lock_text
from nanochat.running.keys import stage_keys

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write(tmp_path, TINY)


def test_a_lock_gives_the_same_values_and_keys_on_another_machine(tmp_path: Path) -> None:
    text = TINY.replace('device = "cpu"', 'device = "auto"').replace("steps = 5\n", "")
    recipe = load(write(tmp_path, text.replace("4096", "16384")), machine=EIGHT_GPUS)
    locked = load(write(tmp_path, lock_text(recipe), "recipe.lock.toml"), machine=CPU)
    assert stage_keys(locked) == stage_keys(recipe)
    assert {path: leaf.value for path, leaf in locked.values.items()} == {
        path: leaf.value for path, leaf in recipe.values.items()
    }
    assert [stage.config for stage in locked.stages.values()] == [stage.config for stage in recipe.stages.values()]
    assert all(leaf.origin.kind == "file" for leaf in locked.values.values())


def test_a_lock_keeps_rules_inputs_plugins_and_data(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("abc")
    text = TINY.replace(
        '[stages.base.data.web]\nuse = "words"', '[stages.base.data.web]\nuse = "text"\npath = "data.txt"'
    )
    lock = tomllib.loads(lock_text(load(write(tmp_path, text))))["lock"]
    assert lock["derived"]["stages.base.model.dim"]["rule"] == "gpt.dim"
    assert lock["derived"]["stages.base.model.dim"]["inputs"] == {"depth": 2, "aspect_ratio": 64, "head_dim": 64}
    assert set(lock["plugins"]) == {"nanochat-run", "acme-tiny"}
    assert lock["data"] == {"stages.base.data.web": {"size": 3}}


def test_the_lock_of_a_lock_is_that_lock(tiny: Path, tmp_path: Path) -> None:
    text = lock_text(load(tiny))
    assert tomllib.loads(lock_text(load(write(tmp_path, text, "recipe.lock.toml")))) == tomllib.loads(text)


def test_a_lock_needs_the_plugins_that_it_names(tmp_path: Path) -> None:
    text = lock_text(load(write(tmp_path, TINY))).replace("acme-tiny", "acme-gone")
    with pytest.raises(InputError) as caught:
        load(write(tmp_path, text, "recipe.lock.toml"))
    assert [found.code for found in caught.value.diagnostics] == ["E204"]


def with_data(folder: Path) -> Path:
    """The tiny recipe with a file as its data."""
    (folder / "data.txt").write_text("abc")
    table = "[stages.base.data.web]\nuse = "
    return write(folder, TINY.replace(f'{table}"words"', f'{table}"text"\npath = "data.txt"'))


def test_a_lock_whose_data_has_changed_is_refused_with_the_table_and_the_change(tmp_path: Path) -> None:
    lock = write(tmp_path, lock_text(load(with_data(tmp_path))), "recipe.lock.toml")
    (tmp_path / "data.txt").write_text("abcd")
    with pytest.raises(InputError) as caught:
        load(lock)
    (found,) = caught.value.diagnostics
    assert found.code == "E304"
    assert "stages.base.data.web is not what the lock was made with: size 3 → 4" in found.message
    assert "run the recipe itself" in found.help
    assert found.location is not None


def test_a_component_of_another_revision_than_the_locks_is_a_warning(tmp_path: Path) -> None:
    recipe = load(write(tmp_path, TINY.replace('"words"', '"everything"').replace("weight = 2\n", "")))
    text = lock_text(recipe)
    assert tomllib.loads(text)["lock"]["revisions"]["stages.base.data.web"] == 3
    older = write(tmp_path, text.replace('"stages.base.data.web" = 3', '"stages.base.data.web" = 2'), "older.toml")
    (warning,) = load(older).warnings
    assert (warning.severity, "revision 2 of stages.base.data.web; it is now 3" in warning.message) == ("warning", True)


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_of_the_repository_loads_without_torch_and_its_lock_without_a_change(
    recipe: Path, tmp_path: Path
) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from nanochat.recipe.load import load_recipe; from nanochat.recipe.lock import lock_text\n"
        "recipe = load_recipe(sys.argv[1]); lock = Path(sys.argv[2]); lock.write_text(lock_text(recipe))\n"
        "again = load_recipe(lock)\n"
        "assert {p: v.value for p, v in again.values.items()} == {p: v.value for p, v in recipe.values.items()}\n"
        "a, b = ([s.identity(seed=1) for s in r.stages.values()] for r in (again, recipe))\n"
        "assert a == b\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    arguments = [sys.executable, "-c", program, str(recipe), str(tmp_path / "recipe.lock.toml")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
