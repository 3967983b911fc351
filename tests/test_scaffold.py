"""`nanochat plugins new`: what it writes installs, passes its own tests, is planned and trains; and what it refuses."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from plugin_site import GOOD, install

from nanochat.scaffold.distribution import KINDS, TEMPLATES, parse_name

BIN = Path(sys.executable).parent


def call(*command: object, cwd: Path, site: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NANOCHAT", "PYTHON", "UV"))}
    environment |= {"PYTHONPATH": str(site or ""), "NANOCHAT_HOME": str(cwd / "home"), **variables}
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


def new(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return call(BIN / "nanochat", "plugins", "new", *arguments, cwd=folder, **variables)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a distribution of each kind, word-KIND, and all of them installed in `site`."""
    folder = tmp_path_factory.mktemp("made")
    for kind in KINDS:
        written = new(folder, f"word-{kind}", "--kind", kind)
        assert written.returncode == 0, written.stderr
    uv = shutil.which("uv") or pytest.fail("uv is what installs the project; it must be on the PATH")
    places = [folder / f"word-{kind}" for kind in KINDS]
    python = ("--python", sys.executable)
    done = call(uv, "pip", "install", *python, "--no-deps", "--target", folder / "site", *places, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_passes_its_own_tests(made: Path, kind: str) -> None:
    done = call(sys.executable, "-m", "pytest", f"word-{kind}", cwd=made, site=made / "site")
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_what_is_installed_is_listed_as_its_authors(made: Path) -> None:
    listed = call(BIN / "nanochat", "plugins", "--json", cwd=made, site=made / "site")
    found = {p["distribution"]: p for p in json.loads(listed.stdout)}
    for kind in KINDS:
        plugin = found[f"nanochat-word-{kind}"]
        assert (plugin["status"], plugin["version"]) == ("ok", "0.1.0")
        assert [(c["kind"], c["name"]) for c in plugin["components"]] == [(kind, f"word_{kind}")]


@pytest.mark.parametrize("kind", KINDS)
def test_its_recipe_is_planned(made: Path, kind: str) -> None:
    planned = call(BIN / "nanochat", "plan", f"word-{kind}/recipe.toml", "--json", cwd=made, site=made / "site")
    assert planned.returncode == 0, planned.stderr
    assert {stage["action"] for stage in json.loads(planned.stdout)["stages"]} == {"run"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_its_recipe_trains(made: Path, kind: str) -> None:
    ran = call(BIN / "nanochat-run", f"word-{kind}/recipe.toml", cwd=made, site=made / "site")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    records = [json.loads(path.read_text()) for path in (made / "home" / "store").glob("*/record.json")]
    if kind == "task":
        assert [r["figures"]["word_task.accuracy"]["n"] for r in records if r["stage"] == "eval"] == [4]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_formatted_and_nothing_of_the_template_is_left(made: Path, kind: str) -> None:
    for path in (made / f"word-{kind}").rglob("*"):
        assert "newcomer" not in path.name.lower()
        if path.is_file() and path.suffix != ".pyc":
            text = path.read_text()
            assert "newcomer" not in text.lower()
            assert "KIND" not in text
    assert call(BIN / "ruff", "format", "--check", ".", cwd=made / f"word-{kind}").returncode == 0
    checked = call(BIN / "ruff", "check", ".", cwd=made / f"word-{kind}")
    assert checked.returncode == 0, checked.stdout


def test_it_says_what_it_wrote_and_what_to_do_next(tmp_path: Path) -> None:
    (tmp_path / "with" / "pip").mkdir(parents=True)
    (tmp_path / "with" / "pip" / "__init__.py").touch()  # an environment that has it
    done = new(tmp_path, "word-games", PYTHONPATH=str(tmp_path / "with"))
    assert done.stdout == (
        "word-games: the distribution nanochat-word-games, with the task `word_games`\n"
        "  README.md\n"
        "  nanochat_word_games/__init__.py\n"
        "  nanochat_word_games/task.py\n"
        "  pyproject.toml\n"
        "  recipe.toml\n"
        "  tests/test_task.py\n"
        "  tiny.toml\n"
        "next:\n"
        "  python -m pip install -e './word-games[test]'\n"
        "  pytest word-games\n"
        "  nanochat-run word-games/recipe.toml\n"
    )


@pytest.mark.skipif(importlib.util.find_spec("pip") is not None, reason="this environment has pip")
def test_where_there_is_no_pip_the_next_commands_are_uvs(tmp_path: Path) -> None:
    assert "  uv pip install -e './word-games[test]'\n" in new(tmp_path, "word-games").stdout


def test_under_uv_the_next_commands_are_uvs(tmp_path: Path) -> None:
    done = new(tmp_path, "words", "--kind", "tool", "--output", str(tmp_path / "my plugins" / "w"), UV="/bin/uv")
    assert done.stdout.splitlines()[-3:] == [
        f"  uv pip install -e '{tmp_path}/my plugins/w[test]'",
        f"  uv run pytest '{tmp_path}/my plugins/w'",
        f"  uv run nanochat-run '{tmp_path}/my plugins/w/recipe.toml'",
    ]
    assert (tmp_path / "my plugins" / "w" / "nanochat_words" / "tool.py").exists()


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    done = new(tmp_path, "words")
    assert (done.returncode, "error[E407]: words is there already" in done.stderr) == (2, True)
    assert [path.name for path in tmp_path.rglob("*")] == ["words"]


@pytest.mark.parametrize(
    "name", ["my plugin", "9a", "../x", "none", "True", "ä", "", "-", "nanochat-", "a" * 41, "a\n"]
)
def test_a_name_that_cannot_be_a_packages_is_refused(tmp_path: Path, name: str) -> None:
    done = new(tmp_path, "--", name)
    assert (done.returncode, "is no name for a plugin" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("spelt", ["word-games", "Word_Games", "word.games", "nanochat-word-games"])
def test_one_name_may_be_spelt_in_many_ways(spelt: str) -> None:
    name = parse_name(spelt)
    assert (name.distribution, name.component, name.cls) == ("nanochat-word-games", "word_games", "WordGames")


@pytest.mark.parametrize(
    "name, kind, owner", [("arithmetic", "task", "nanochat-plugins"), ("run", "task", "nanochat-run")]
)
def test_a_name_that_is_taken_is_refused_with_its_owner(tmp_path: Path, name: str, kind: str, owner: str) -> None:
    done = new(tmp_path, name, "--kind", kind)
    assert done.returncode == 2
    assert f"the name `{name}` is taken by the installed distribution `{owner}`" in done.stderr


def test_a_kind_without_a_template_names_those_with_one(tmp_path: Path) -> None:
    done = new(tmp_path, "words", "--kind", "stage")
    assert done.returncode == 2
    assert "'task', 'source', 'optimizer', 'eval', 'tool'" in done.stderr
    assert {path.name for path in TEMPLATES.iterdir()} == {"common", *KINDS}


# The other commands beside it


def test_the_list_tells_versions_kinds_observers_states_reasons_and_collisions(tmp_path: Path) -> None:
    watched = GOOD.replace("NAME", "arithmetic") + "@hookimpl\ndef on_step(step): ...\n"
    install(tmp_path, "acme-watch", "acme_watch", watched)
    install(tmp_path, "acme-bad", "acme_bad", "raise ImportError('needs a newer Python')")
    install(tmp_path, "acme-next", "acme_next", "raise AssertionError('imported')", group="nanochat.v2")
    listed = call(BIN / "nanochat", "plugins", cwd=tmp_path, site=tmp_path)
    for lines in (
        "acme_watch 2.0 (acme-watch) ok\n  task        arithmetic\n  observes    on_step\n",
        f"acme_bad 2.0 (acme-bad) broken — ImportError: needs a newer Python ({tmp_path / 'acme_bad.py'}:1)\n",
        "acme_next 2.0 (acme-next) other API — it is made for nanochat.v2; this nanochat has nanochat.v1\n",
        "task `arithmetic` is claimed by acme-watch and nanochat-plugins\n",
    ):
        assert lines in listed.stdout
    assert call(BIN / "nanochat", "plugins", "--json", "show", "x", cwd=tmp_path).returncode == 2


def test_one_plugin_is_shown_with_where_its_components_come_from(tmp_path: Path) -> None:
    shown = call(BIN / "nanochat", "plugins", "show", "nanochat_plugins", cwd=tmp_path)
    assert "  tool        calculator  nanochat_plugins.tools.calculator:Calculator  revision 1" in shown.stdout
    (described,) = json.loads(
        call(BIN / "nanochat", "plugins", "show", "nanochat-plugins", "--json", cwd=tmp_path).stdout
    )
    assert described["distribution"] == "nanochat-plugins"


def test_a_plugin_that_is_not_installed_and_a_command_that_there_is_not_suggest_near_ones(tmp_path: Path) -> None:
    missing = call(BIN / "nanochat", "plugins", "show", "nanochat-plugin", cwd=tmp_path)
    assert (missing.returncode, "did you mean `nanochat-plugins`" in missing.stderr) == (2, True)
    misspelt = call(BIN / "nanochat", "plugins", "nwe", cwd=tmp_path)
    assert (misspelt.returncode, "'new'" in misspelt.stderr) == (2, True)
