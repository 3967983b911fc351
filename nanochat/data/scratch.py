"""A folder to work in beside the place where the work is to be, and what became of earlier ones.

In: a place. Out: a folder PLACE.RANDOM.partial, gone if the work fails. A process that is killed leaves its own: the
lock in it is free then, by which the next one knows that it may remove it. A folder of such a name without that lock is
somebody else's. Not here: the work, and moving it to its place.
"""

import glob
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK = "being-made.lock"


@contextmanager
def scratch_folder(place: Path) -> Iterator[Path]:
    """A folder that is there for the work of the block. If that succeeds it stays, without its lock, to be moved."""
    place.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{place.name}.", suffix=".partial", dir=place.parent))
    try:
        with FileLock(folder / _LOCK):
            yield folder
        (folder / _LOCK).unlink(missing_ok=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def remove_leftovers(place: Path) -> list[Path]:
    """Remove what killed processes left beside a place; the folders that were."""
    removed = []
    for lock in place.parent.glob(f"{glob.escape(place.name)}.*.partial/{_LOCK}"):
        with suppress(Timeout), FileLock(lock, timeout=0):
            shutil.rmtree(lock.parent, ignore_errors=True)
            removed.append(lock.parent)
    return removed
