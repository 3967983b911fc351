"""Which places of a file begin with which document, so that reading can begin near the one that is wanted.

A place is a number that the file's reader can begin at (`records.py`): a row group of a .parquet, a byte of another
file, about one in each megabyte; of `stories`, a story's number. How many documents lie before it no file tells, since
some records are passed over and some belong to the other split. So the places are noted as a file is read, below the
data folder, for the next process: a run that goes on finds those of all that it had read before. They are found by the
file's digest, and are not kept where the file changes while it is read: so they never belong to another content. Since
they decide which documents come, a sha256 of their own tells whether they are what was written. Not here: reading.

The last document of 160 million characters, on two cores of an AMD EPYC (Zen 4), seconds, by

    uv run pytest tests/benchmarks/test_seek_speed.py --benchmark-enable --benchmark-only

    form                     .parquet   .jsonl   .txt   .jsonl.zst   .txt.zst   .jsonl.gz   .txt.gz
    its place is known          0.007    0.007  0.016         0.17       0.18        1.07      1.12
    read from the beginning      0.51     0.55   0.75         0.53       0.93        0.89      1.19

A compressed file cannot be entered in the middle: what is before the place is unpacked, about 900 million characters a
second of .zst and 150 of .gz. Larger ones are better kept as .parquet (`nanochat data pack`) or as tokens (`tokenize`).
"""

import contextlib
import hashlib
import json
import time
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

from nanochat.durable import replace_content
from nanochat.home import data_dir
from nanochat.running.json_file import read_json
from nanochat_plugins.sources.digest_cache import Stamp, stamp_of

FORMAT = 1
"""Raise it when other records are passed over: places that were noted before are of no use then."""
SAVE_SECONDS = 2.0
"""Between two times that places are kept, at least."""
SAVE_SHARE = 20
"""And so many times as long as it took: for a file of a terabyte that is 1.4 s, on the thread that makes batches."""

Place = tuple[int, int]
"""Where reading may begin, and the number of the first document from there on."""
START: Place = (0, 0)


class PlaceIndex:
    """The places of a file, as far as it was read."""

    def __init__(self, identity: Sequence[object], file: Path | None = None) -> None:
        """`identity`: all that decides which documents the file gives, its digest first; `file`: None if there is none,
        and what is read follows from the identity alone.
        """
        self._file, self._stamp = file, _stamp(file)
        name = hashlib.sha256(json.dumps([FORMAT, *identity]).encode()).hexdigest()[:32]
        self._path = data_dir() / "places" / f"{name}.json"
        self._places = self._noted()
        self._next_save, self._known = time.monotonic() + SAVE_SECONDS, len(self._places)

    def find(self, start: int) -> Place:
        """The last place before document `start`.

        What is passed over just before a document belongs to its reader, so a place that begins with it is too late.
        """
        behind = bisect_left(self._places, start, key=lambda place: place[1])
        return self._places[behind - 1] if behind else START

    def learn(self, place: int, number: int) -> None:
        """Note a place that is reached in reading on, and the number of the next document."""
        if place > (self._places[-1] if self._places else START)[0]:
            self._places.append((place, number))
            if time.monotonic() > self._next_save:
                self.save()

    def save(self) -> None:
        """Keep what was learnt, unless another process knows more. Where that cannot be written, nothing is kept."""
        began = time.monotonic()
        if _stamp(self._file) == self._stamp:
            self._keep()
        ended = time.monotonic()
        self._next_save = ended + max(SAVE_SECONDS, SAVE_SHARE * (ended - began))

    def _keep(self) -> None:
        if len(self._places) > max(self._known, len(self._noted())):
            with contextlib.suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                content = {"places": self._places, "sha256": _sha256(self._places)}
                replace_content(self._path, json.dumps(content).encode())
        self._known = len(self._places)

    def _noted(self) -> list[Place]:
        noted = read_json(self._path) or {}
        places = noted.get("places")
        if not isinstance(places, list) or noted.get("sha256") != _sha256(places):
            return []
        return [(place, number) for place, number in places]


def _sha256(places: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(places).encode()).hexdigest()


def _stamp(file: Path | None) -> Stamp | None:
    """None too where the file is gone: its reader says so."""
    with contextlib.suppress(OSError):
        return None if file is None else stamp_of(file)
    return None
