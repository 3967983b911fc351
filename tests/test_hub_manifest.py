"""Manifests: what a revision of a data set holds, as the hub told once; from then on nothing is asked."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub, in_this_process, serving

from nanochat.errors import NanochatError, StageError
from nanochat_plugins.sources import hub_fault
from nanochat_plugins.sources.hub_manifest import known, manifest_path, pinned

REPO, NAME = "someone/texts", "data/part-0.parquet"
CONTENT = bytes(range(256)) * 400
FILES = {NAME: CONTENT, "data/part-1.parquet": CONTENT[::-1], "README.md": b"# Texts\n", "a.txt": b"", "b.txt": b"b"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("NANOCHAT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(hub_fault, "PAUSES_SECONDS", (0, 0, 0))
    with serving() as found, in_this_process(found):
        found.publish(REPO, FILES)
        yield found


def test_a_manifest_has_every_file_with_the_digest_that_the_hub_knows(hub: FakeHub) -> None:
    manifest = pinned(REPO, "main")
    assert {file.name: file.size for file in manifest.files} == {name: len(text) for name, text in FILES.items()}
    digests = {file.name: file.digest for file in manifest.files}
    # sha256sum and `git hash-object` of the same bytes
    assert digests[NAME] == "sha256:27783e87963a4efb6829b531c9ba57b44f45797f6770bd637fbf0d807cbdbae0"
    assert digests["a.txt"] == "git-sha1:e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


def test_a_branch_means_the_commit_of_first_contact_until_the_manifest_is_removed(hub: FakeHub) -> None:
    first = pinned(REPO, "main")
    later = hub.publish(REPO, {NAME: b"other"})
    asked = len(hub.requests)
    assert pinned(REPO, "main") == first
    assert len(hub.requests) == asked
    assert pinned(REPO, later).commit == later != first.commit
    manifest_path(REPO, "main").unlink()
    assert pinned(REPO, "main").commit == later


def test_what_a_branch_means_from_now_on_is_told_once(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    commit = pinned(REPO, "main").commit
    pinned(REPO, "main")
    (told,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert f'revision = "{commit}"' in told
    caplog.clear()
    pinned(REPO, commit)
    assert caplog.records == []


def test_what_the_hub_does_not_know_is_e301_and_not_asked_again(hub: FakeHub) -> None:
    for repo, revision in (("someone/nothing", "main"), (REPO, "v9")):
        with pytest.raises(StageError) as raised:
            pinned(repo, revision)
        assert raised.value.diagnostics[0].code == "E301"
        assert f"{repo} ({revision})" in raised.value.diagnostics[0].message
    assert [request.name.split("/")[-1] for request in hub.requests if "datasets" in request.name] == ["main", "v9"]
    assert known(REPO, "v9") is None


def test_a_hub_that_fails_for_a_moment_is_asked_again(hub: FakeHub) -> None:
    hub.api_failures += [503, 429]
    assert pinned(REPO, "main").files


def test_a_damaged_manifest_is_e304_and_named(hub: FakeHub) -> None:
    pinned(REPO, "main")
    path = manifest_path(REPO, "main")
    sound = json.loads(path.read_text())
    climbing = {**sound, "files": [{"name": "../../x", "size": 1, "digest": "sha256:0"}]}
    outside = {**sound, "commit": "../../../outside"}
    for content in ("{", "[]", "{}", json.dumps({**sound, "format": 99}), json.dumps(climbing), json.dumps(outside)):
        path.write_text(content)
        with pytest.raises(NanochatError) as raised:
            pinned(REPO, "main")
        assert raised.value.diagnostics[0].code == "E304"
        assert str(path) in raised.value.diagnostics[0].message


@pytest.mark.parametrize("commit", ["../../../outside", "/outside", "", "main", "A" * 40, "0" * 39, "0" * 40 + "\n"])
def test_a_commit_of_the_hub_that_could_be_another_folder_is_e304_and_nothing_is_kept(
    hub: FakeHub, commit: str
) -> None:
    hub.commits[REPO] = {commit: FILES}
    with pytest.raises(StageError) as raised:
        pinned(REPO, "main")
    (found,) = raised.value.diagnostics
    assert found.code == "E304"
    assert f"{REPO} (main)" in found.message and repr(commit) in found.message
    assert not manifest_path(REPO, "main").exists()
