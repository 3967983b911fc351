"""The runtime of one worker process: device, dtype, rank, world size, seed. Made once, passed on.

Nothing in the project keeps device or dtype state at import time; what needs them takes a Runtime.
"""

import importlib
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import attrs
import numpy as np
import torch
import torch.distributed


@attrs.frozen(kw_only=True)
class Runtime:
    """Where and how this process computes."""

    device: torch.device
    dtype: torch.dtype
    """What activations and matrix products are computed in; parameters are kept in float32."""
    seed: int = 42
    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    attention: str = "banded"
    """One of `nanochat.hardware.ATTENTION`; "auto" tries kernels out, which may take seconds."""
    note: Callable[[str], None] = lambda _: None
    """Tells the person who watches what was chosen here."""
    shard: str = "none"
    """What the processes share out: none, optimizer (its state) or full (weights and gradients as well)."""

    @property
    def is_main(self) -> bool:
        """Rank 0 alone writes files and figures."""
        return self.rank == 0

    def seed_everything(self) -> None:
        """Seed Python, NumPy and torch alike on every rank: parameters are initialised equally everywhere."""
        random.seed(self.seed)
        np.random.seed(self.seed % 2**32)
        torch.manual_seed(self.seed)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all ranks, on every rank, wherever it lies: the device does the exchange."""
        if self.world_size == 1:
            return values
        total = values.to(self.device, copy=True)
        torch.distributed.all_reduce(total)
        return total.to(values.device)

    def any(self, flag: bool) -> bool:
        """Whether any rank says yes, known to every rank."""
        if self.world_size == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag))) > 0)

    def which(self, flag: bool) -> list[int]:
        """The ranks that say yes, known to every rank."""
        flags = torch.zeros(self.world_size)
        flags[self.rank] = float(flag)
        return self.sum(flags).nonzero().flatten().tolist()

    def barrier(self) -> None:
        """Wait for every rank."""
        if self.world_size > 1:
            torch.distributed.barrier()


@contextmanager
def distributed_runtime(
    *,
    device: str,
    dtype: str,
    seed: int,
    attention: str = "auto",
    matmul_precision: str = "highest",
    shard: str = "none",
    timeout_seconds: float = 600.0,
) -> Iterator[Runtime]:
    """The runtime of a process that torchrun started (or of a single one), its process group open while it lasts.

    matmul_precision: of float32 products, "highest" or "high" as `torch.set_float32_matmul_precision`; while it lasts.
    timeout_seconds: how long an exchange waits for the other processes; RuntimeError, or the process's end, after it.
    """
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    place = torch.device(device, local_rank) if device == "cuda" else torch.device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if world_size > 1:
        # Its functions have the open group as a default. Imported while one is open, as the first optimizer does, they
        # keep it after its end, and its threads run into the end of Python: one run in three was aborted so.
        importlib.import_module("torch.distributed.nn.functional")
        backend, timeout = "nccl" if place.type == "cuda" else "gloo", timedelta(seconds=timeout_seconds)
        torch.distributed.init_process_group(backend, timeout=timeout)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(matmul_precision)
    try:
        yield Runtime(
            device=place,
            dtype=getattr(torch, dtype),
            seed=seed,
            rank=rank,
            local_rank=local_rank,
            world_size=world_size,
            attention=attention,
            shard=shard,
        )
    finally:
        torch.set_float32_matmul_precision(before)
        if world_size > 1:
            torch.distributed.destroy_process_group()


def local_runtime(*, device: str = "cpu", dtype: str = "float32", seed: int = 42) -> Runtime:
    """A runtime for one process, for inference and tests."""
    return Runtime(device=torch.device(device), dtype=getattr(torch, dtype), seed=seed)


def is_available(device: str) -> bool:
    """Whether this torch can compute on "cpu", "cuda" or "mps" here; it may be built without a device that is there."""
    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return found[device]
