"""The git repositories that a run's code and recipe lie in: which commit, and what was changed since.

In: folders. Out: a `SourceTree` of each repository, once. Where there is no git, or it fails, there is none.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

_GIT_SECONDS = 10
_PATCH = ("--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")
"""Settings under which `git apply` takes a patch, whatever the user's own are."""
_REDIRECTING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
"""In a git hook these name the repository of the hook."""
_LARGEST_UNTRACKED = 2**20
"""Bytes of a new file that is put into the patch: source, not data."""
_MOST_UNTRACKED = 200
_MOST_UNTRACKED_BYTES = 5 * 2**20
"""Bytes of all new files in the patch together: a folder of small files of data is data too."""
_SECRET = ".env"
"""How the names of files begin that hold secrets by custom; one that nobody has told git to ignore stays out too."""


@attrs.frozen(kw_only=True)
class SourceTree:
    """A repository as it stood."""

    folder: Path
    holds: tuple[str, ...]
    """What of a run lies in it: nanochat, recipe."""
    commit: str | None
    """None before the first."""
    untracked: tuple[str, ...]
    not_in_patch: tuple[str, ...]
    """Untracked files whose content the patch leaves out: data and secrets."""
    patch: bytes
    """What was changed since the commit, as `git apply` takes it."""

    def facts(self) -> dict[str, Any]:
        """All but the patch, as plain data."""
        return {
            "folder": str(self.folder),
            "holds": list(self.holds),
            "commit": self.commit,
            "dirty": bool(self.patch or self.untracked),
            "untracked": list(self.untracked),
            "not_in_patch": list(self.not_in_patch),
        }


def source_trees(nanochat: Path, recipe: Path) -> list[SourceTree]:
    """The repositories of nanochat's source and of the folder a recipe lies in: one where both are in the same."""
    holds: dict[Path, list[str]] = {}
    top = _top(nanochat)
    if top == nanochat.resolve():  # an installed package may lie inside an unrelated repository
        holds[top] = ["nanochat"]
    top = _top(recipe)
    if top is not None and _ask_git(recipe, "ls-files"):  # a home folder may be a repository of a few files of it
        holds.setdefault(top, []).append("recipe")
    return [_tree(top, held) for top, held in holds.items()]


def _top(folder: Path) -> Path | None:
    found = _ask_git(folder, "rev-parse", "--show-toplevel")
    return Path(os.fsdecode(found).rstrip("\n")) if found is not None else None


def _tree(top: Path, holds: Iterable[str]) -> SourceTree:
    commit = _ask_git(top, "rev-parse", "HEAD")
    listed = _ask_git(top, "ls-files", "-z", "--others", "--exclude-standard") or b""
    untracked = [os.fsdecode(name) for name in listed.split(b"\0") if name]
    patched = list(_patched(top, untracked))
    patch = _ask_git(top, "diff", *_PATCH, "HEAD") or b""
    patch += b"".join(_ask_git(top, "diff", *_PATCH, "--no-index", "/dev/null", name) or b"" for name in patched)
    return SourceTree(
        folder=top,
        holds=tuple(holds),
        commit=commit.decode().strip() if commit else None,
        untracked=tuple(untracked),
        not_in_patch=tuple(name for name in untracked if name not in patched),
        patch=patch,
    )


def described(tree: Mapping[str, Any]) -> str:
    """The facts of a tree in a line, for people."""
    changed = f" with uncommitted changes ({tree['patch']})" if tree.get("patch") else ""
    unpatched = " with new files" if tree.get("dirty") and not changed else ""
    return f"{tree.get('commit') or 'no commit yet'}{changed or unpatched}"


def _patched(top: Path, untracked: Iterable[str]) -> Iterator[str]:
    """The new files whose content is put into the patch."""
    count, left = 0, _MOST_UNTRACKED_BYTES
    for name in untracked:
        path = top / name
        size = _size(path)
        if size is None or size > min(left, _LARGEST_UNTRACKED) or path.name.startswith(_SECRET):
            continue
        count, left = count + 1, left - size
        if count > _MOST_UNTRACKED:
            return
        yield name


def _size(path: Path) -> int | None:
    """Bytes of a file or link; None for what is neither, a repository in the tree, or is gone meanwhile."""
    with contextlib.suppress(OSError):
        if path.is_symlink() or path.is_file():
            return path.lstat().st_size
    return None


def _ask_git(folder: Path, *arguments: str) -> bytes | None:
    """What git says; None where it fails. `diff --no-index` says with 1 that there is a difference."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            env={name: value for name, value in os.environ.items() if name not in _REDIRECTING},
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 or (done.returncode == 1 and "--no-index" in arguments) else None
