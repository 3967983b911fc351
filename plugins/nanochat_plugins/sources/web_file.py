"""A single file from the web: fetched once, pinned by its digest, and found here from then on.

In: an http address, perhaps the sha256 that its content must have. Out: the file, whole. Without a sha256 an address
means what it gave on first contact: the digest is kept beside the file. StageError E301 where it cannot be had, E304
where it has another digest. One process fetches, others wait for it. Not here: data sets of the hub.
"""

import hashlib
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import attrs
from filelock import FileLock

from nanochat.durable import sync
from nanochat.errors import stage_failure
from nanochat.home import data_dir
from nanochat_plugins.sources.digest_cache import file_digest
from nanochat_plugins.sources.hub_fault import insist
from nanochat_plugins.sources.hub_file import receive, received
from nanochat_plugins.sources.hub_manifest import HubFile


@attrs.frozen(kw_only=True)
class WebFile:
    """A file that is here."""

    path: Path
    sha256: str


def fetched(url: str, sha256: str = "") -> WebFile:
    """Have the file here."""
    # By what is wanted: a file that gets another digest in the recipe is another file, and the old one stays.
    wanted = hashlib.sha256(f"{url}\0{sha256}".encode()).hexdigest()[:16]
    folder = data_dir() / "downloads" / wanted
    place = folder / (PurePosixPath(urlsplit(url).path).name or "file")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if not place.is_file():
            _fetch(url, sha256, place)
        pin = folder / "sha256"
        if not pin.is_file():
            pin.write_text(file_digest(place))
    pinned, found = sha256 or pin.read_text().strip(), file_digest(place)
    if found != pinned:
        raise stage_failure(
            "E304",
            f"{place} is damaged: its sha256 is {found}, and that of {url} is {pinned}",
            help="remove it; it is downloaded anew",
        )
    return WebFile(path=place, sha256=found)


def _fetch(url: str, sha256: str, place: Path) -> None:
    part = place.with_name(f"{place.name}.part")
    what = f"{url} was not downloaded"
    size = insist(what, place.parent, lambda: _size(url))
    file = HubFile(place.name, size, f"sha256:{sha256}" if sha256 else "")
    insist(
        what,
        place.parent,
        lambda: receive(url, file, part, lambda _: None, elsewhere=True),
        received=lambda: received(part),
    )
    part.replace(place)
    sync(place.parent)


def _size(url: str) -> int:
    """Bytes, as the server says before it sends them."""
    from huggingface_hub import get_session, hf_raise_for_status

    answer = get_session().head(url, follow_redirects=True, headers={"Accept-Encoding": "identity"})
    hf_raise_for_status(answer)
    length = str(answer.headers.get("Content-Length", ""))
    if not length.isdigit():
        raise ConnectionError("the server does not say how long it is")
    return int(length)
