"""The source `climbmix`: shards of a public data set, all downloaded before the first document is read.

In: a `ClimbMixConfig`. Out: documents shard by shard; the data set's last shard is the validation split. Files lie
below the data folder as DATA/REPO/REVISION/shard_00000.parquet; one that is there already is not asked for again.
StageError E301 where a shard cannot be had, E304 where what came is not what the hub describes; InputError E304 where a
file is damaged. Not here: the one request for one file (`hub_file.py`).
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from nanochat.data.source import Shard, Split
from nanochat.home import data_dir
from nanochat_plugins.sources.climbmix_config import LAST_SHARD, ClimbMixConfig
from nanochat_plugins.sources.hub_file import fetch
from nanochat_plugins.sources.records import records


class ClimbMix:
    """The shards of a config, in the order of their numbers."""

    def __init__(self, config: ClimbMixConfig) -> None:
        self._config = config
        self._skipped: Counter[str] = Counter()

    def shards(self, split: Split) -> Sequence[Shard]:
        """The shards of a split, whose files are here then.

        The train split's bring that of validation along: a process that downloads in the middle of training lets all
        others wait in a collective, which has a limit.
        """
        files = [self._fetched(n) for n in ([LAST_SHARD] if split == "validation" else range(self._config.shards))]
        self._fetched(LAST_SHARD)
        return [self._shard(file) for file in files]

    def documents(self, shard: Shard, start: int = 0) -> Iterator[str]:
        number = 0
        for record in records(self._folder / shard.name, column="text", separator=""):
            if record.text is not None:
                number += 1
                if number > start:
                    yield record.text
            elif number >= start:
                self._skipped[record.fault] += 1

    def skipped(self) -> Mapping[str, int]:
        return dict(self._skipped)

    @property
    def _folder(self) -> Path:
        return data_dir() / self._config.repo.replace("/", "--") / self._config.revision.replace("/", "--")

    def _shard(self, file: Path) -> Shard:
        origin = f"{self._config.repo}@{self._config.revision}/{file.name}"
        digest = hashlib.sha256(origin.encode()).hexdigest()
        return Shard(name=file.name, size_bytes=file.stat().st_size, digest=digest)

    def _fetched(self, number: int) -> Path:
        """The shard's file, downloaded if it is not here; other processes that want it wait."""
        file = self._folder / f"shard_{number:05d}.parquet"
        if not file.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self._folder / f"{file.name}.lock"):
                if not file.exists():
                    fetch(self._config.repo, self._config.revision, file)
        return file
