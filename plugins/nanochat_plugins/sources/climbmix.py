"""The source `climbmix`: shards of a public data set, each downloaded when it is first read.

In: a `ClimbMixConfig`. Out: documents shard by shard; the data set's last shard is the validation split. Files lie
below the data folder as DATA/REPO/REVISION/shard_00000.parquet; one that is there already is not asked for again.
StageError E301 where a download fails, InputError E304 where a file is damaged.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from nanochat.data.source import Shard, Split
from nanochat.errors import stage_failure
from nanochat.home import data_dir
from nanochat_plugins.sources.climbmix_config import LAST_SHARD, ClimbMixConfig
from nanochat_plugins.sources.records import records

SHARD_BYTES = 100_000_000  # about; the exact sizes are known to the hub alone


class ClimbMix:
    """The shards of a config, in the order of their numbers."""

    def __init__(self, config: ClimbMixConfig) -> None:
        self._config = config
        self._skipped: Counter[str] = Counter()

    def shards(self, split: Split) -> Sequence[Shard]:
        return [self._shard(n) for n in ([LAST_SHARD] if split == "validation" else range(self._config.shards))]

    def documents(self, shard: Shard, start: int = 0) -> Iterator[str]:
        number = 0
        for record in records(self._local(shard.name), column="text", separator=""):
            if record.text is not None:
                number += 1
                if number > start:
                    yield record.text
            elif number >= start:
                self._skipped[record.fault] += 1

    def skipped(self) -> Mapping[str, int]:
        return dict(self._skipped)

    def _shard(self, number: int) -> Shard:
        name = f"shard_{number:05d}.parquet"
        origin = f"{self._config.repo}@{self._config.revision}/{name}"
        return Shard(name=name, size_bytes=SHARD_BYTES, digest=hashlib.sha256(origin.encode()).hexdigest())

    def _local(self, name: str) -> Path:
        """The shard's file, downloaded if it is not here; other processes that want it wait."""
        folder = data_dir() / self._config.repo.replace("/", "--") / self._config.revision.replace("/", "--")
        file = folder / name
        if file.exists():
            return file
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{name}.lock"):
            if not file.exists():
                self._download(name, folder)
        return file

    def _download(self, name: str, folder: Path) -> None:
        # The client takes a second to import, and is not needed where the shards are.
        from huggingface_hub import hf_hub_download

        try:
            hf_hub_download(
                self._config.repo, name, repo_type="dataset", revision=self._config.revision, local_dir=folder
            )
        except Exception as fault:  # the client raises its own, its HTTP library's and the system's errors
            reason = (str(fault).strip() or type(fault).__name__).splitlines()[0]
            raise stage_failure(
                "E301",
                f"{name} of the data set {self._config.repo} ({self._config.revision}) was not downloaded: {reason}",
                help=f"check the network, or put the file into {folder}; then the same command goes on",
            ) from fault
