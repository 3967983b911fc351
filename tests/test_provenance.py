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
    facts, patch = collect(tree / "recipe.toml", MACHINE, Registry())
    assert (facts["git"]["commit"], facts["git"]["dirty"], patch) == (git(tree, "rev-parse", "HEAD"), False, b"")
    assert facts["git"]["folder"] == str(tree)


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
    facts, patch = collect(tree / "recipe.toml", MACHINE, Registry())
    assert facts["git"]["dirty"]
    assert sorted(facts["git"]["untracked"]) == ["empty.py", "new folder/ünicode.py", "new.bin"]
    assert facts["git"]["not_in_patch"] == []

    again = tmp_path / "again"
    git(tmp_path, "clone", "-q", str(tree), str(again))
    git(again, "checkout", "-q", facts["git"]["commit"])
    (tmp_path / "dirty.patch").write_bytes(patch)
    git(again, "apply", str(tmp_path / "dirty.patch"))
    assert files(again) == files(tree)


def test_a_new_file_of_data_stays_out_of_the_patch_and_is_named(tree: Path) -> None:
    (tree / "data.bin").write_bytes(b"\0" * (2**20 + 1))
    facts, patch = collect(tree / "recipe.toml", MACHINE, Registry())
    assert (facts["git"]["not_in_patch"], facts["git"]["dirty"], patch) == (["data.bin"], True, b"")


def test_new_files_that_are_many_or_hold_secrets_by_custom_stay_out_of_the_patch(tree: Path) -> None:
    for name in range(6):
        (tree / f"shard_{name}.txt").write_text("x" * 2**20)
    (tree / ".env.local").write_text("TOKEN=hunter2")
    facts, patch = collect(tree / "recipe.toml", MACHINE, Registry())
    assert facts["git"]["not_in_patch"] == [".env.local", "shard_5.txt"]
    assert b"hunter2" not in patch


def test_an_installed_nanochat_is_told_by_its_version_and_the_recipes_repository_is_noted(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nanochat, "__file__", str(tmp_path / "site-packages" / "nanochat" / "__init__.py"))
    (tmp_path / "site-packages" / "nanochat").mkdir(parents=True)
    facts, _ = collect(tree / "nanochat" / "recipe.toml", MACHINE, Registry())
    assert facts["git"]["folder"] == str(tree)
    assert facts["nanochat"] == nanochat.__version__
    facts, patch = collect(tmp_path / "recipe.toml", MACHINE, Registry())
    assert (facts["git"], patch) == ({}, b"")


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
