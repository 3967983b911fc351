"""The contract of a source whose shards are files that come from elsewhere: what `nanochat data` asks of it.

A source that has these methods beside those of `nanochat.data.source` is listed with what is here, fetched before it is
needed, and verified; `documents` waits for the same files. All of it may be called from several threads.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import attrs

from nanochat.data.source import Shard, Source

OnBytes = Callable[[int], None]
"""Told how many bytes came, less than nothing where some must be received again. What it raises ends the transfer."""


@attrs.frozen(kw_only=True)
class State:
    """What of a shard's file is on this disk."""

    here: bool
    """Whole, by its size."""
    bytes_here: int
    """Of an unfinished file too."""


@runtime_checkable
class RemoteSource(Source, Protocol):
    """A source that fetches its shards."""

    def pin(self) -> str:
        """What was pinned, to be read by a person: REPOSITORY@COMMIT."""

    def place(self, shard: Shard) -> Path:
        """Where the shard's file lies once it is here."""

    def state(self, shard: Shard) -> State:
        """What of it is here; neither the network nor the file's content is looked at."""

    def fetch(self, shard: Shard, on_bytes: OnBytes) -> None:
        """Have the file here, whole and checked, and go on with what came before. StageError where it cannot be had."""

    def check(self, shard: Shard) -> None:
        """Read the file that is here. StageError E304 where its content is not what was pinned; it is set aside."""
