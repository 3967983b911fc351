"""The files of one commit on this disk: which are here, and how one comes.

In: a manifest. Out: DATA/REPO/COMMIT/NAME, each file whole and checked from the moment it appears there. One process
fetches a file, and others that want it wait for its lock. Beside the commits lie incoming/ (what is unfinished) and
locks/. Not here: in which order they come (`arrivals.py`).
"""

import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from nanochat.durable import sync
from nanochat.errors import stage_failure
from nanochat_plugins.sources.hub_fault import insist
from nanochat_plugins.sources.hub_file import OnBytes, aside, file_digest, receive, received, set_aside
from nanochat_plugins.sources.hub_manifest import HubFile, Manifest

POLL_SECONDS = 0.2


class Checkout:
    """A manifest's files."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    def place(self, file: HubFile) -> Path:
        """Where the file lies once it is here."""
        return self.manifest.folder / self.manifest.commit / file.name

    def is_here(self, file: HubFile) -> bool:
        """Whether it lies there, with the right size; its content is not read."""
        try:
            return self.place(file).stat().st_size == file.size
        except OSError:
            return False

    def bytes_here(self, file: HubFile) -> int:
        """How much of it has come, finished or not."""
        return file.size if self.is_here(file) else received(self._part(file))

    def fetch(self, file: HubFile, on_bytes: OnBytes) -> None:
        """Have the file here. StageError where it cannot be had."""
        while not self.try_fetch(file, on_bytes):
            time.sleep(POLL_SECONDS)
            on_bytes(0)

    def try_fetch(self, file: HubFile, on_bytes: OnBytes) -> bool:
        """As `fetch`, but False where another process or thread is at it."""
        with suppress(Timeout), self._lock(file).acquire(timeout=0):
            if not self.is_here(file):
                self._fetch(file, on_bytes)
            return True
        return False

    def is_sound(self, file: HubFile) -> bool:
        """Whether the file's content is what the manifest says. It is read whole."""
        return file_digest(self.place(file), file.digest) == file.digest

    def check(self, file: HubFile) -> None:
        """StageError E304 where a file that is here is damaged: it is set aside, so that it is fetched anew."""
        place, what = self.place(file), f"its content is not what the manifest of {self.manifest.repo} says"
        with suppress(FileNotFoundError):  # another process has found the same, and set it aside
            if self.is_sound(file):
                return
            if (found := place.stat().st_size) != file.size:
                what = f"{found:,} bytes are here, and the manifest of {self.manifest.repo} says {file.size:,}"
                what = f"it is cut off, {what}" if found < file.size else what
            set_aside(place)
        raise stage_failure(
            "E304",
            f"{place} is damaged: {what}",
            help="it was set aside, beside its place, until a sound one is here; run the same command again, or "
            "`nanochat data get RECIPE`: it is downloaded anew",
        )

    def _fetch(self, file: HubFile, on_bytes: OnBytes) -> None:
        from huggingface_hub import hf_hub_url

        manifest, place, part = self.manifest, self.place(file), self._part(file)
        for folder in (place.parent, part.parent):
            folder.mkdir(parents=True, exist_ok=True)
        if place.exists():  # of another size than it should
            set_aside(place)
        url = hf_hub_url(manifest.repo, file.name, repo_type="dataset", revision=manifest.commit)
        insist(
            f"{file.name} of the data set {manifest.repo} ({manifest.revision}) was not downloaded",
            manifest.folder,
            lambda: receive(url, file, part, on_bytes),
            received=lambda: received(part),
            on_pause=lambda: on_bytes(0),
        )
        part.replace(place)
        sync(place.parent)
        for damaged in (place, part):
            aside(damaged).unlink(missing_ok=True)

    def _part(self, file: HubFile) -> Path:
        return self.manifest.folder / "incoming" / self.manifest.commit / f"{file.name}.part"

    def _lock(self, file: HubFile) -> FileLock:
        folder = self.manifest.folder / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{self.manifest.commit[:12]}--{file.name.replace('/', '--')}.lock")
