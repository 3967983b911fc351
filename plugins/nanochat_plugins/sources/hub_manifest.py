"""The manifest of a data set at one revision: the commit that it means, and every file's size and digest.

In: a repository and a revision. Out: the Manifest, from DATA/REPO/REVISION.json. Where that file is not there, the hub
is asked once, on first contact, and it is written: from then on a branch or a tag means the commit that it meant on
that day, and nothing is asked of the network. (To follow a branch further, remove the file.) StageError E301 where the
hub cannot be asked or does not know them, E304 where it names no commit; InputError E304 where the file is damaged.
Not here: the files themselves.
"""

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import attrs
from filelock import FileLock

from nanochat.errors import stage_failure, wrong_input
from nanochat.home import data_dir
from nanochat.running.json_file import write_json
from nanochat_plugins.sources.hub_fault import insist

log = logging.getLogger(__name__)

FORMAT = 1
_COMMIT = re.compile("[0-9a-f]{40}")  # it becomes a folder: nothing that could lead out of ours


@attrs.frozen
class HubFile:
    """A file of a data set, as the hub describes it."""

    name: str
    """With the folders of the repository: data/train-00000.parquet."""
    size: int
    """Bytes."""
    digest: str
    """sha256:HEX; of a small file, of which the hub tells no other, git-sha1:HEX."""


@attrs.frozen(kw_only=True)
class Manifest:
    """What a revision holds."""

    repo: str
    revision: str
    """As it was asked for."""
    commit: str
    files: Sequence[HubFile]
    """By name."""

    @property
    def folder(self) -> Path:
        """Where all that belongs to the repository lies."""
        return repository_folder(self.repo)


def repository_folder(repo: str) -> Path:
    """DATA/OWNER--NAME."""
    return data_dir() / repo.replace("/", "--")


def manifest_path(repo: str, revision: str) -> Path:
    """Where a revision's manifest is kept."""
    return repository_folder(repo) / f"{revision.replace('/', '--')}.json"


def pinned(repo: str, revision: str) -> Manifest:
    """The manifest that is here, or the hub's, which is kept then. Other processes wait for the one that asks."""
    path = manifest_path(repo, revision)
    found = known(repo, revision)
    if found is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            found = known(repo, revision)
            if found is None:
                what = f"the hub does not tell what the data set {repo} ({revision}) holds"
                found = insist(what, path.parent, lambda: _ask(repo, revision))
                write_json(path, {"format": FORMAT, **attrs.asdict(found)})
                if revision != found.commit:
                    told = '%s: here `%s` means the commit %s from now on; revision = "%s" means it everywhere'
                    log.warning(told, repo, revision, found.commit, found.commit)
    return found


def known(repo: str, revision: str) -> Manifest | None:
    """The manifest that is here; the network is not asked. None where there is none."""
    path = manifest_path(repo, revision)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        facts = json.loads(content)
        files = [HubFile(str(file["name"]), int(file["size"]), str(file["digest"])) for file in facts["files"]]
        commit = str(facts["commit"])
        if facts["format"] != FORMAT or not all(map(_is_sound, files)):
            raise ValueError("it is of another kind")
        if not _COMMIT.fullmatch(commit):
            raise ValueError(f"the commit {commit!r} is not 40 hexadecimal digits")
        return Manifest(repo=repo, revision=revision, commit=commit, files=files)
    except (ValueError, KeyError, TypeError) as fault:
        raise wrong_input(
            "E304", f"the manifest {path} is damaged: {fault}", help="remove it; it is fetched anew from the hub"
        ) from fault


def _is_sound(file: HubFile) -> bool:
    """Whether a file would lie below its folder, and its digest can be compared."""
    name = PurePosixPath(file.name)
    kind, _, value = file.digest.partition(":")
    inside = not name.is_absolute() and ".." not in name.parts
    return inside and file.size >= 0 and kind in ("sha256", "git-sha1") and bool(value)


def _ask(repo: str, revision: str) -> Manifest:
    # The client takes a second to import, and is not needed where the manifest is.
    from huggingface_hub import HfApi

    api = HfApi()
    commit = api.dataset_info(repo, revision=revision).sha or ""
    if not _COMMIT.fullmatch(commit):
        raise stage_failure(
            "E304",
            f"the hub names a commit of the data set {repo} ({revision}) that is none: {commit!r}",
            help="a commit is 40 hexadecimal digits: check that HF_ENDPOINT is a hub",
        )
    entries = api.list_repo_tree(repo, recursive=True, revision=commit, repo_type="dataset")
    files = [_described(entry) for entry in entries if hasattr(entry, "size")]
    return Manifest(
        repo=repo,
        revision=revision,
        commit=commit,
        files=sorted(filter(_is_sound, files), key=lambda file: file.name),
    )


def _described(entry: Any) -> HubFile:
    digest = f"sha256:{entry.lfs.sha256}" if entry.lfs else f"git-sha1:{entry.blob_id}"
    return HubFile(entry.path, entry.size, digest)
