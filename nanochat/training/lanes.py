"""Sums that come out bit for bit the same for any number of processes: `determinism = "elastic"`.

A step's rows are those of V lanes in turn (nanochat/data/loader.py). The gradient of each lane is computed alone, and
the V of them are added by one fixed tree: lane i and lane i + V/2, then i and i + V/4, and so on. The lanes of a rank
are whole branches of it, whatever number of ranks divides V: it adds its own, gets the others' sums and adds the rest.
Losses take the same way. The price: a forward and backward pass for each lane, and gradients sent only at the end.

What follows is as independent of the processes when a parameter is never cut and has an optimizer of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nanochat.data.loader import Batch
from nanochat.runtime import Runtime
from nanochat.training.exchange import Exchange
from nanochat.training.share import Share


class ElasticExchange(Exchange):
    """The exchange whose sums do not depend on the number of processes."""

    def __init__(self, model: nn.Module, shares: Mapping[str, Share], runtime: Runtime, lanes: int) -> None:
        """lanes: V, a power of 2 that the number of processes divides."""
        assert not any(share.kind == "cut" for share in shares.values())
        super().__init__(model, shares, runtime)
        self._own_lanes = lanes // runtime.world_size
        self._branches: list[tuple[int, list[Tensor]]] = []
        """Sums that wait for one of as many lanes: lanes in it, and the loss with the gradients in order."""
        self._with_gradient: set[str] = set()

    @contextmanager
    def steady(self) -> Iterator[None]:
        """On the CPU, one thread: products are cut by the number of threads, which is the cores over the processes."""
        threads = torch.get_num_threads()
        if self.runtime.device.type == "cpu":
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    def lanes(self, batch: Batch) -> Sequence[Batch]:
        """This rank's lanes, each all of its rows, in the order in which two sums of equal size always follow."""

        def rows_of(rows: Tensor, lane: int) -> Tensor:
            return rows[lane :: self._own_lanes].contiguous()

        return [batch.map(partial(rows_of, lane=lane)) for lane in _halving_order(self._own_lanes)]

    def lane_done(self, losses: Sequence[Tensor]) -> None:
        """Take the lane's gradients away and add them to the branch that they belong to."""
        tensors, count = [torch.stack(list(losses)).sum()], 1
        for name, leaf in self.leaves.items():
            self._with_gradient |= set() if leaf.grad is None else {name}
            tensors.append(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad)
            leaf.grad = None
        while self._branches and self._branches[-1][0] == count:
            torch._foreach_add_(tensors, self._branches.pop()[1])
            count *= 2
        self._branches.append((count, tensors))

    def complete(self) -> Tensor:
        """Add the branches of all ranks. Returns the step's loss on the main rank, zero on others."""
        ((_, (loss, *gradients)),) = self._branches
        for name in self._with_gradient:
            self.leaves[name].grad = torch.empty_like(self.leaves[name])
        known = dict(zip(self.parameters, gradients, strict=True))
        for name in self.with_gradient([*self.parameters]):
            whole = self._whole(known[name])
            self.leaves[name].grad = whole if name in self.parts or name in self.tracked else None
        self._give_factors()
        self._branches, self._with_gradient, self._last = [], set(), False
        whole_loss = self._whole(loss.view(1))[0]
        return whole_loss if self.runtime.is_main else torch.zeros_like(whole_loss)

    def _arrive(self, name: str) -> None:
        """Nothing is sent before all lanes are done."""

    def _whole(self, branch: Tensor) -> Tensor:
        """The sum over all ranks by the rest of the tree."""
        size = self.runtime.world_size
        if size == 1:
            return branch
        gathered = branch.new_empty(size * branch.numel())
        dist.all_gather_into_tensor(gathered, branch.reshape(-1))
        branches = gathered.view(size, *branch.shape)
        while size > 1:
            size //= 2
            branches = branches[:size] + branches[size:]
        return branches[0]


def _halving_order(count: int) -> list[int]:
    """0 … count−1 such that i and i + count/2 are neighbours, and so on within: bits reversed. A power of 2."""
    order = [0]
    while len(order) < count:
        order = [half * 2 for half in order] + [half * 2 + 1 for half in order]
    return order
