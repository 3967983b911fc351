"""Digests of files, remembered until a file changes."""

import hashlib
import os
from pathlib import Path

import pytest

from nanochat_plugins.sources.digest_cache import file_digest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOCHAT_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


def test_a_digest_is_remembered_until_the_file_changes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / "a.txt"
    path.write_text("one")
    known = file_digest(path)
    assert known == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", None)  # to read it would fail
        assert file_digest(path) == known
    path.write_text("two")
    os.utime(path, ns=(1, 1))
    assert file_digest(path) != known


@pytest.mark.parametrize("replaced", [False, True], ids=["written over", "replaced"])
def test_a_change_of_the_same_length_whose_time_was_put_back_is_seen(home: Path, replaced: bool) -> None:
    path = home / "a.txt"
    path.write_text("one")
    file_digest(path)
    status = path.stat()
    new = home / "b.txt" if replaced else path
    new.write_text("two")
    new.replace(path)
    while path.stat().st_ctime_ns == status.st_ctime_ns:  # a system's clock may be coarse
        os.utime(path, ns=(1, 1))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as cp -p and rsync -t do
    assert file_digest(path) == hashlib.sha256(b"two").hexdigest()
