"""Real processes for tests: a function run by several gloo ranks at once, each with the Runtime of its rank."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from nanochat.runtime import Runtime


def run_on_ranks(world_size: int, folder: Path, function: Callable[..., None], *arguments: Any, shard: str) -> None:
    """Call `function(runtime, *arguments)` on every rank; what one of them raises is raised here.

    function: of a module's own, since the ranks import it. folder: where they meet.
    """
    meeting = folder / f"meeting_{world_size}_{len(list(folder.glob('meeting_*')))}"
    torch.multiprocessing.spawn(
        _rank, args=(world_size, str(meeting), function, arguments, shard), nprocs=world_size, join=True
    )


def _rank(
    rank: int, world_size: int, meeting: str, function: Callable[..., None], arguments: tuple[Any, ...], shard: str
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size)
    try:
        function(
            Runtime(device=torch.device("cpu"), dtype=torch.float32, rank=rank, world_size=world_size, shard=shard),
            *arguments,
        )
    finally:
        dist.destroy_process_group()
