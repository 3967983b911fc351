"""Configuration of `climbmix`: which shards of the public data set. Imports neither the hub's client nor a reader."""

from collections.abc import Mapping
from typing import Any

from nanochat.config import Fingerprinted, config, option

LAST_SHARD = 6_542
"""The data set's last file, which is its validation split."""
SHARD_CHARACTERS, SHARD_BYTES = 250_000_000, 100_000_000
"""About, of each."""


@config
class ClimbMixConfig(Fingerprinted):
    """ClimbMix, a filtered mixture of web text, shuffled: about 250 million characters a shard, downloaded from the
    hub when a stage needs it. Take it for a model that is to know the world, on a GPU.
    """

    repo: str = option("karpathy/climbmix-400b-shuffle", doc="the hub's data set")
    revision: str = option("main", doc="a branch, a tag or, to pin the data, a commit")
    shards: int = option(170, minimum=1, maximum=LAST_SHARD, doc="training shards, from the first on")

    def fingerprint(self) -> Mapping[str, Any]:
        """Repository, revision and shards; nothing is asked of the network."""
        return {"repo": self.repo, "revision": self.revision, "shards": [*range(self.shards), LAST_SHARD]}

    def characters(self) -> int:
        """Of the training shards."""
        return SHARD_CHARACTERS * self.shards

    def disk_bytes(self) -> int:
        """Of the training shards and that of validation."""
        return SHARD_BYTES * (self.shards + 1)
