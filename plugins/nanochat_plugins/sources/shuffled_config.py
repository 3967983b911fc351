"""Configuration of `climbmix` and `fineweb_edu`: how many shards of two public data sets, which are shuffled and cut
alike. Imports neither the hub's client nor a reader."""

from collections.abc import Mapping
from typing import Any

from nanochat.config import Fingerprinted, Problem, config, option
from nanochat_plugins.sources.files_config import LONGEST_DOCUMENT
from nanochat_plugins.sources.hub_selection import HubSelection, repo_problems

CLIMBMIX_LAST, FINEWEB_EDU_LAST = 6_542, 1_822
"""The data sets' last files, which are their validation splits."""
SHARD_CHARACTERS, SHARD_BYTES = 250_000_000, 100_000_000
"""About, of each."""
REVISION = "a branch, a tag or, to pin the data, a commit"
WORKERS = "files downloaded ahead of their use at a time"
DIGEST = "refuse another validation split than this: the digest that `nanochat data list` shows"


@config
class ClimbMixConfig(Fingerprinted):
    """ClimbMix, a filtered mixture of web text, shuffled: about 250 million characters a shard, downloaded from the
    hub when a stage needs it. Take it for a model that is to know the world, on a GPU.
    """

    repo: str = option("karpathy/climbmix-400b-shuffle", doc="the hub's data set")
    revision: str = option("main", doc=REVISION)
    shards: int = option(170, minimum=1, maximum=CLIMBMIX_LAST, doc="training shards, from the first on")
    validation_digest: str = option("", doc=DIGEST)
    workers: int = option(4, minimum=1, maximum=64, execution=True, doc=WORKERS)

    def problems(self) -> list[Problem]:
        """A name that is none."""
        return repo_problems(self.repo)

    def fingerprint(self) -> Mapping[str, Any]:
        """Repository, revision and shards; nothing is asked of the network."""
        return _fingerprint(self, CLIMBMIX_LAST)

    def selection(self) -> HubSelection:
        """What is read."""
        return _selection(self, CLIMBMIX_LAST)

    def characters(self) -> int:
        """Of the training shards."""
        return SHARD_CHARACTERS * self.shards

    def disk_bytes(self) -> int:
        """Of the training shards and that of validation."""
        return SHARD_BYTES * (self.shards + 1)


@config
class FineWebEduConfig(Fingerprinted):
    """FineWeb-Edu, 100 billion tokens of educational web text, shuffled: about 250 million characters a shard,
    downloaded from the hub when a stage needs it. Take it where explanations count for more than variety.
    """

    repo: str = option("karpathy/fineweb-edu-100b-shuffle", doc="the hub's data set")
    revision: str = option("main", doc=REVISION)
    shards: int = option(240, minimum=1, maximum=FINEWEB_EDU_LAST, doc="training shards, from the first on")
    validation_digest: str = option("", doc=DIGEST)
    workers: int = option(4, minimum=1, maximum=64, execution=True, doc=WORKERS)

    def problems(self) -> list[Problem]:
        """A name that is none."""
        return repo_problems(self.repo)

    def fingerprint(self) -> Mapping[str, Any]:
        """Repository, revision and shards; nothing is asked of the network."""
        return _fingerprint(self, FINEWEB_EDU_LAST)

    def selection(self) -> HubSelection:
        """What is read."""
        return _selection(self, FINEWEB_EDU_LAST)

    def characters(self) -> int:
        """Of the training shards."""
        return SHARD_CHARACTERS * self.shards

    def disk_bytes(self) -> int:
        """Of the training shards and that of validation."""
        return SHARD_BYTES * (self.shards + 1)


Shuffled = ClimbMixConfig | FineWebEduConfig


def _fingerprint(config: Shuffled, last: int) -> Mapping[str, Any]:
    return {"repo": config.repo, "revision": config.revision, "shards": [*range(config.shards), last]}


def _selection(config: Shuffled, last: int) -> HubSelection:
    return HubSelection(
        repo=config.repo,
        revision=config.revision,
        pattern="shard_*.parquet",
        shards=config.shards,
        validation=f"shard_{last:05d}.parquet",
        validation_digest=config.validation_digest,
        longest_document=LONGEST_DOCUMENT,
        workers=config.workers,
    )
