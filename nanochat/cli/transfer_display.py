"""A download on the screen: a bar on a terminal, a line a file elsewhere.

In: the files that are missing, and what came.
"""

import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import click

from nanochat.quantity import counted, size
from nanochat.running.datasets import DataFile


class TransferDisplay:
    """Told from several threads how many bytes came, from one that a file is whole."""

    def __init__(self, files: Sequence[DataFile]) -> None:
        self._count, self._done = len(files), 0
        self._total = sum(file.shard.size_bytes for file in files)
        self._came = sum(file.source.state(file.shard).bytes_here for file in files)
        self._bar: Any = None
        self._lock = threading.Lock()

    def __enter__(self) -> "TransferDisplay":
        if self._count and sys.stdout.isatty():
            from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

            columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            self._bar = Progress("{task.description}", *columns)
            self._task = self._bar.add_task(f"0 of {self._count} files", total=self._total, completed=self._came)
            self._bar.start()
        elif self._count:
            click.echo(f"{counted(self._count, 'file')} to fetch, {size(self._total - self._came)}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def on_bytes(self, n_bytes: int) -> None:
        """Bytes that came, or have to come again."""
        with self._lock:
            self._came += n_bytes
            if self._bar is not None:
                self._bar.update(self._task, completed=self._came)

    def on_done(self, file: DataFile) -> None:
        """A file is whole."""
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._task, description=f"{self._done} of {self._count} files")
        else:
            click.echo(f"{self._done:,} of {self._count:,}: {file.shard.name}, {size(file.shard.size_bytes)}")
