"""The transfer of one file: received in pieces, continued where it broke off, compared with its manifest at the end.

In: an address, what the manifest says, the place of the unfinished file. Out: that file, whole and checked, or an
exception, and whatever came stays for the next attempt. It is continued only if the server still sends the same thing:
its entity tag, kept beside the unfinished file, is unchanged, and the part that comes begins where ours ends.
Not here: attempts and pauses (`hub_fault.py`), who waits for whom (`hub_checkout.py`).
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from errno import ENOSPC
from pathlib import Path
from typing import Any

from nanochat_plugins.sources.hub_fault import Damaged
from nanochat_plugins.sources.hub_manifest import HubFile

STALLED_SECONDS = 30.0
"""Without a byte; then the connection counts as broken."""

OnBytes = Callable[[int], None]
"""Told how many bytes came, less than nothing where some must be received again. What it raises ends the transfer."""


def receive(url: str, file: HubFile, part: Path, on_bytes: OnBytes, *, elsewhere: bool = False) -> None:
    """Complete the unfinished file `part`. Damaged (and none is left) where its content is not the manifest's.

    A file without a digest has its size alone compared. elsewhere: another server, which the hub's token is not shown.
    """
    on_bytes(0)  # whoever does not want it any more says so
    _transfer(url, file, part, on_bytes, elsewhere=elsewhere)
    found = file_digest(part, file.digest) if file.digest else ""
    if found != file.digest:
        on_bytes(-part.stat().st_size)
        set_aside(part)
        raise Damaged(f"what came has the digest {found}, and the manifest says {file.digest}")
    _tag_path(part).unlink(missing_ok=True)


def file_digest(path: Path, like: str) -> str:
    """The digest of a file's content, of the same kind as another."""
    kind = like.partition(":")[0]
    with path.open("rb") as opened:
        if kind == "sha256":
            return f"{kind}:{hashlib.file_digest(opened, 'sha256').hexdigest()}"
        content = opened.read()  # git's digest is of small files
    return f"{kind}:{hashlib.sha1(b'blob %d%c' % (len(content), 0) + content).hexdigest()}"


def set_aside(path: Path) -> None:
    """Move a damaged file out of the way: it is kept for whoever wants to look at it, until a sound one has come."""
    path.replace(aside(path))
    _tag_path(path).unlink(missing_ok=True)


def aside(path: Path) -> Path:
    """Where a damaged file is kept."""
    return path.with_name(f"{path.name}.damaged")


def received(part: Path) -> int:
    """Bytes of an unfinished file."""
    try:
        return part.stat().st_size
    except (FileNotFoundError, NotADirectoryError):  # not begun, or finished and moved to its place
        return 0


def _transfer(url: str, file: HubFile, part: Path, on_bytes: OnBytes, *, elsewhere: bool) -> None:
    from huggingface_hub import get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # public, says its guide

    have, tag = received(part), _read_tag(part)
    if have == file.size and part.exists():
        return
    if have and (not tag or have > file.size):
        have = _discard(part, on_bytes)
    _check_room(part.parent, file.size - have)
    headers = {**build_hf_headers(token=False if elsewhere else None), "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with get_session().stream("GET", url, headers=headers, timeout=STALLED_SECONDS) as response:
        if response.status_code >= 400:
            if response.status_code == 416:  # what we have is not a beginning of what is there
                _discard(part, on_bytes)
            response.read()
            hf_raise_for_status(response)
        if have and not _continues(response, have, tag):
            have = _discard(part, on_bytes)
            if response.status_code == 206:  # a part of something else
                raise ConnectionError("the hub sends another part than the one that is missing")
        _write(response, file, part, have, on_bytes)


def _continues(response: Any, have: int, tag: str) -> bool:
    """Whether what comes is the rest of what we have."""
    begins = str(response.headers.get("Content-Range", "")).startswith(f"bytes {have}-")
    return response.status_code == 206 and begins and response.headers.get("ETag") == tag


def _write(response: Any, file: HubFile, part: Path, have: int, on_bytes: OnBytes) -> None:
    with part.open("ab" if have else "wb") as opened:
        tag = str(response.headers.get("ETag", ""))
        _tag_path(part).write_text("" if tag.startswith("W/") else tag)  # a weak tag does not promise equal bytes
        for block in response.iter_bytes():
            if have + len(block) > file.size:
                raise Damaged(f"more than the {file.size:,} bytes came that the manifest says")
            opened.write(block)
            opened.flush()  # what is killed here goes on from here
            have += len(block)
            on_bytes(len(block))
        os.fsync(opened.fileno())
    if have < file.size:
        raise ConnectionError(f"the connection ended after {have:,} of {file.size:,} bytes")


def _discard(part: Path, on_bytes: OnBytes) -> int:
    """Begin anew: 0 bytes are here."""
    on_bytes(-received(part))
    part.unlink(missing_ok=True)
    _tag_path(part).unlink(missing_ok=True)
    return 0


def _check_room(folder: Path, n_bytes: int) -> None:
    if shutil.disk_usage(folder).free < n_bytes:
        raise OSError(ENOSPC, f"{n_bytes:,} bytes are wanted", str(folder))


def _tag_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _read_tag(part: Path) -> str:
    try:
        return _tag_path(part).read_text()
    except OSError:
        return ""
