"""Do all processes of a stage read the same data? Asked before the first step: on several machines, each has its own.

In: a stage's sources and the runtime. Out: nothing, or an error on every process. Not here: what is right.
"""

import hashlib
import json
from collections.abc import Mapping

import torch

from nanochat.data.source import Source, digests
from nanochat.errors import stage_failure
from nanochat.runtime import Runtime

_DIGITS = 12  # 48 bits: their sum over thousands of processes fits 64


def check_same_data(sources: Mapping[str, Source], runtime: Runtime) -> None:
    """StageError E304 where the sources of the processes have different shards: lanes would not fit together."""
    text = json.dumps(digests(sources), sort_keys=True)
    own = int(hashlib.sha256(text.encode()).hexdigest()[:_DIGITS], 16)
    total = int(runtime.sum(torch.tensor(own)))
    if runtime.any(total != own * runtime.world_size):
        raise stage_failure(
            "E304",
            "the processes of this stage read different data: machines pinned a branch of a hub's data set on "
            "different days, or their files differ",
            help="name a commit as `revision`, or let the machines share one data folder (NANOCHAT_DATA_DIR)",
        )
