"""The folder that a sandboxed run may write: how much is in it, and its end, whatever was made there.

In: nothing. Out: a 0700 folder, removed in the end. No symbolic link is followed, and nothing recurses, so that a
folder a thousand deep is no matter.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder that only this user may enter."""
    folder = Path(tempfile.mkdtemp(prefix=f"nanochat-sandbox-{os.getpid()}-")).resolve()
    try:
        yield folder
    finally:
        remove(folder)


def holds_more(folder: Path, *, files: int, size: int) -> bool:
    """Whether there are more files and folders than `files`, or more than `size` bytes on disk. It may be changing."""
    waiting, count, total = [str(folder)], 0, 0
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    count, total = count + 1, total + entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                if count > files or total > size:
                    return True
    return False


def remove(folder: Path) -> None:
    """Remove a folder in which nobody works any more. Nested folders are first brought up, so that no path is long."""
    number = 0
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        place.chmod(0o700)
        for entry in list(os.scandir(place)):
            if not entry.is_dir(follow_symlinks=False):
                Path(entry.path).unlink()
                continue
            Path(entry.path).chmod(0o700)  # else it could not be moved: its `..` changes
            number += 1
            raised = folder.parent / f"{folder.name}.{number}"
            Path(entry.path).rename(raised)
            waiting.append(raised)
        place.rmdir()
