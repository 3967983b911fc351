"""How many documents each row group of a .parquet file gives, so that reading can begin at the right one.

The file's own metadata counts rows, but some rows are passed over and some belong to the other split. So the counts are
noted as a file is read, below the data folder, for the next process: a run that goes on finds those of all that it
had read before. The last document of a shard of 250 million characters is reached in 1 ms with its counts and 0.65 s
without, on two cores of an AMD EPYC (Zen 4), by

    uv run pytest tests/benchmarks/test_seek_speed.py --benchmark-enable --benchmark-only

Not here: reading.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Sequence

from nanochat.home import data_dir
from nanochat.running.json_file import read_json, write_bytes

FORMAT = 1
"""Raise it when other rows are passed over: counts that were noted before are of no use then."""
SAVE_SECONDS = 2.0


class RowIndex:
    """The counts of the first row groups, as far as they are known."""

    def __init__(self, identity: Sequence[object]) -> None:
        """`identity`: all that decides which documents the file gives, its digest first."""
        name = hashlib.sha256(json.dumps([FORMAT, *identity]).encode()).hexdigest()[:32]
        self._path = data_dir() / "row-indexes" / f"{name}.json"
        self._counts = self._noted()
        self._saved, self._known = time.monotonic(), len(self._counts)

    def place(self, start: int) -> tuple[int, int]:
        """The row group to begin with, and the documents before it.

        What is passed over just before a document belongs to its reader, so the group may end with document start − 1.
        """
        before = 0
        for group, count in enumerate(self._counts):
            if before + count >= start:
                return group, before
            before += count
        return len(self._counts), before

    def learn(self, group: int, count: int) -> None:
        """Note what a row group gave, those before it being known."""
        if group == len(self._counts):
            self._counts.append(count)
            if time.monotonic() - self._saved > SAVE_SECONDS:
                self.save()

    def save(self) -> None:
        """Keep what was learnt, unless another process knows more. Where that cannot be written, nothing is kept."""
        self._saved = time.monotonic()
        if len(self._counts) > max(self._known, len(self._noted())):
            with contextlib.suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(self._path, json.dumps({"documents": self._counts}).encode())
        self._known = len(self._counts)

    def _noted(self) -> list[int]:
        noted = (read_json(self._path) or {}).get("documents", [])
        return list(noted) if isinstance(noted, list) and all(type(n) is int and n >= 0 for n in noted) else []
