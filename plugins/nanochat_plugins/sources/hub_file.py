"""One file of a data set on the hub: asked for again when the network fails, and compared with what the hub says of it.

In: repository, revision, where the file shall lie. Out: the file, whole and checked, or StageError E301 (it cannot be
had) or E304 (what came is another). Not here: which files, and who waits for whom.
"""

import hashlib
import logging
import re
import time
from pathlib import Path

from nanochat.errors import stage_failure

log = logging.getLogger(__name__)

PAUSES_SECONDS = (1, 4, 16, 60)
"""Before each attempt but the first."""
SHA256 = re.compile("[0-9a-f]{64}")


class _Damaged(Exception):
    """What came is not what the hub describes."""


def fetch(repo: str, revision: str, file: Path) -> None:
    """Download the file of this name of a data set into its folder, where it appears when it is whole."""
    # The client takes a second to import, and is not needed where the files are.
    from huggingface_hub.errors import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    for pause in (*PAUSES_SECONDS, None):
        try:
            _download(repo, revision, file)
        except Exception as fault:  # the client raises its own, its HTTP library's and the system's errors
            # The client calls a file that it cannot ask the hub for an entry not found, too.
            missing = isinstance(fault, EntryNotFoundError) and not isinstance(fault, LocalEntryNotFoundError)
            final = missing or isinstance(fault, RepositoryNotFoundError | RevisionNotFoundError | OfflineModeIsEnabled)
            reason = (str(fault).strip() or type(fault).__name__).splitlines()[0]
            if final or pause is None:
                raise stage_failure(
                    "E304" if isinstance(fault, _Damaged) else "E301",
                    f"{file.name} of the data set {repo} ({revision}) was not downloaded: {reason}",
                    help=f"check the network, or put the file into {file.parent}; then the same command goes on",
                ) from fault
            log.warning("%s: %s; trying again in %d s", file.name, reason, pause)
            time.sleep(pause)
        else:
            return


def _download(repo: str, revision: str, file: Path) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    described = get_hf_file_metadata(hf_hub_url(repo, file.name, repo_type="dataset", revision=revision))
    # Beside its place: what is killed before it was checked must not be taken for the file.
    came = Path(
        hf_hub_download(
            repo,
            file.name,
            repo_type="dataset",
            revision=revision,
            local_dir=file.parent / "incoming",
            force_download=True,
        )
    )
    size = came.stat().st_size
    if described.size not in (None, size):
        raise _Damaged(f"{size} bytes came of {described.size}")
    if described.etag and SHA256.fullmatch(described.etag):  # a large file's tag is its digest
        with came.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if found != described.etag:
            raise _Damaged(f"its sha256 is {found}, and the hub says {described.etag}")
    came.replace(file)
