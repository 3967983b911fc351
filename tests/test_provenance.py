"""Provenance: what a run notes of where it came from, enough to have the same code again."""

import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest

import nanochat
from nanochat.hardware import Machine
from nanochat.registry import Registry
from nanochat.running.provenance import collect

MACHINE = Machine(cuda_devices=0, mps=False, cpu_cores=2, memory_bytes=2**32, name="test")


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, which nanochat seems to run from."""
    folder = tmp_path / "source"
    (folder / "nanochat").mkdir(parents=True)
    for name in ("nanochat/__init__.py", "changed.py", "gone.py", "a name.py"):
        (folder / name).write_text(f"# {name}\n")
    (folder / "picture.bin").write_bytes(bytes(range(256)))
    (folder / ".gitignore").write_text("*.log\n")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    monkeypatch.setattr(nanochat, "__file__", str(folder / "nanochat" / "__init__.py"))
    return folder


def files(folder: Path) -> dict[str, bytes]:
    found = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    return {name: p.read_bytes() for name, p in found.items() if not name.startswith(".git/") and p.suffix != ".log"}


def test_a_clean_tree_is_a_commit_and_no_patch(tree: Path) -> None:
    facts, patches = collect(tree / "recipe.toml", MACHINE, Registry())
    (found,) = facts["source_trees"]
    assert (found["commit"], found["dirty"], found["patch"]) == (git(tree, "rev-parse", "HEAD"), False, None)
    assert (found["folder"], found["holds"], patches) == (str(tree), ["nanochat", "recipe"], {})


@pytest.mark.parametrize("setting", ["diff.noprefix=true", "color.ui=always", "diff.external=false", ""])
def test_the_patch_makes_the_tree_again_from_the_commit(tree: Path, tmp_path: Path, setting: str) -> None:
    if setting:
        git(tree, "config", *setting.split("="))
    (tree / "changed.py").write_text("print('other')\n")
    (tree / "gone.py").unlink()
    (tree / "picture.bin").write_bytes(bytes(reversed(range(256))))
    (tree / "staged.py").write_text("staged = True\n")
    git(tree, "add", "staged.py")
    (tree / "new folder").mkdir()
    (tree / "new folder" / "ünicode.py").write_text("no end of line")
    (tree / "empty.py").write_text("")
    (tree / "new.bin").write_bytes(b"\0\1\2")
    (tree / "run.log").write_text("ignored")
    facts, patches = collect(tree / "recipe.toml", MACHINE, Registry())
    (found,) = facts["source_trees"]
    assert (found["dirty"], found["patch"], found["not_in_patch"]) == (True, "dirty.patch", [])
    assert sorted(found["untracked"]) == ["empty.py", "new folder/ünicode.py", "new.bin"]

    again = tmp_path / "again"
    git(tmp_path, "clone", "-q", str(tree), str(again))
    git(again, "checkout", "-q", found["commit"])
    (tmp_path / "dirty.patch").write_bytes(patches["dirty.patch"])
    git(again, "apply", str(tmp_path / "dirty.patch"))
    assert files(again) == files(tree)


def test_a_new_file_of_data_stays_out_of_the_patch_and_is_named(tree: Path) -> None:
    (tree / "data.bin").write_bytes(b"\0" * (2**20 + 1))
    facts, patches = collect(tree / "recipe.toml", MACHINE, Registry())
    (found,) = facts["source_trees"]
    assert (found["not_in_patch"], found["dirty"], patches) == (["data.bin"], True, {})


def test_new_files_that_are_many_or_hold_secrets_by_custom_stay_out_of_the_patch(tree: Path) -> None:
    for name in range(6):
        (tree / f"shard_{name}.txt").write_text("x" * 2**20)
    (tree / ".env.local").write_text("TOKEN=hunter2")
    facts, patches = collect(tree / "recipe.toml", MACHINE, Registry())
    assert facts["source_trees"][0]["not_in_patch"] == [".env.local", "shard_5.txt"]
    assert b"hunter2" not in patches["dirty.patch"]


def test_an_installed_nanochat_is_told_by_its_version_and_the_recipes_repository_is_noted(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nanochat, "__file__", str(tmp_path / "site-packages" / "nanochat" / "__init__.py"))
    (tmp_path / "site-packages" / "nanochat").mkdir(parents=True)
    facts, _ = collect(tree / "nanochat" / "recipe.toml", MACHINE, Registry())
    (found,) = facts["source_trees"]
    assert (found["folder"], found["holds"]) == (str(tree), ["recipe"])
    assert facts["nanochat"] == nanochat.__version__
    facts, patches = collect(tmp_path / "recipe.toml", MACHINE, Registry())
    assert (facts["source_trees"], patches) == ([], {})


def test_a_recipe_of_another_repository_has_its_commit_and_its_patch_noted_too(tree: Path, tmp_path: Path) -> None:
    mine = tmp_path / "experiments"
    mine.mkdir()
    (mine / "recipe.toml").write_text("format = 1\n")
    git(mine, "init", "-q")
    git(mine, "add", "-A")
    git(mine, "commit", "-q", "-m", "mine")
    (mine / "recipe.toml").write_text("format = 1\nseed = 7\n")
    facts, patches = collect(mine / "recipe.toml", MACHINE, Registry())
    ours, theirs = facts["source_trees"]
    assert (ours["holds"], ours["folder"], ours["patch"]) == (["nanochat"], str(tree), None)
    assert (theirs["holds"], theirs["folder"], theirs["patch"]) == (["recipe"], str(mine), "recipe.patch")
    assert theirs["commit"] == git(mine, "rev-parse", "HEAD")
    assert b"+seed = 7" in patches["recipe.patch"]


def test_a_repository_that_knows_nothing_of_the_recipes_folder_is_not_noted(tree: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "recipes").mkdir(parents=True)
    git(home, "init", "-q")
    (home / ".profile").write_text("")
    git(home, "add", ".profile")
    git(home, "commit", "-q", "-m", "settings")
    facts, _ = collect(home / "recipes" / "recipe.toml", MACHINE, Registry())
    assert [found["folder"] for found in facts["source_trees"]] == [str(tree)]


def test_who_what_when_and_on_what_are_noted(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["nanochat", "run", "recipe.toml", "--set", "seed=7"])
    monkeypatch.setenv("LOGNAME", "ada")
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    before = datetime.now(UTC).replace(microsecond=0)
    facts, _ = collect(tree / "recipe.toml", MACHINE, Registry())
    assert before <= datetime.fromisoformat(facts["time"]) <= datetime.now(UTC)
    assert facts["argv"] == ["nanochat", "run", "recipe.toml", "--set", "seed=7"]
    assert (facts["user"], facts["cwd"]) == ("ada", str(Path.cwd()))
    assert facts["machine"]["cpu_cores"] == 2
    assert facts["packages"]["click"] == version("click")
    assert "hunter2" not in str(facts)
