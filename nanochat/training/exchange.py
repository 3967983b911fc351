"""Gradients summed over the processes, and updated parameters spread among them.

In: a model's parameters and the share of each (nanochat/training/share.py). Out: `parts`, what this process updates,
with the summed gradients in their `.grad`; after the optimizers' step, parameters that are alike everywhere again.

A gradient is on its way as soon as it is complete, while the backward pass goes on. All processes must send in one
order, so it is that of the first step, in which nothing is sent before the end. A gradient in factors
(nanochat/training/factored_gradient.py) is summed whole on every process, since all of them refine its basis by it.
Not here: sums that do not depend on the number of processes (nanochat/training/lanes.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nanochat.data.loader import Batch
from nanochat.runtime import Runtime
from nanochat.training.factored_gradient import Tracked, factors, forget_sums, set_factors, tracked
from nanochat.training.saved_model import ModelPart, SavedModel
from nanochat.training.share import Share


class Exchange:
    """One model's exchange. With one process nothing is sent."""

    def __init__(self, model: nn.Module, shares: Mapping[str, Share], runtime: Runtime) -> None:
        self.model, self.shares, self.runtime = model, shares, runtime
        self.parameters = dict(model.named_parameters())
        self.tracked: dict[str, Tracked] = {
            name: its for name, parameter in self.parameters.items() if (its := tracked(parameter)) is not None
        }
        self.leaves: dict[str, Tensor] = {
            name: self.tracked[name].carrier if name in self.tracked else parameter
            for name, parameter in self.parameters.items()
        }
        """In whose `.grad` autograd sums a parameter's gradient: its own, or that of the carrier beside it."""
        self.parts: dict[str, nn.Parameter] = {}
        """What this rank updates: a parameter, or rows of one as a parameter of its own over the same memory."""
        for name, parameter in self.parameters.items():
            rows = shares[name].rows(parameter.shape, runtime.rank, runtime.world_size)
            if rows is not None:
                self.parts[name] = self._part(name, rows)
        self._sending = self._sent_here()
        self._order: list[str] = []
        """In which gradients are sent, once it is known."""
        self._arrived: dict[str, None] = {}
        self._losses: list[Tensor] = []
        self._sent: dict[str, tuple[Any, Tensor]] = {}
        self._last = False
        if runtime.world_size > 1:
            for name in self._sending:
                self.leaves[name].register_post_accumulate_grad_hook(lambda _, name=name: self._arrive(name))

    def _part(self, name: str, rows: tuple[int, int]) -> nn.Parameter:
        parameter = self.parameters[name]
        return nn.Parameter(parameter.data[slice(*rows)]) if self.shares[name].kind == "cut" else parameter

    def _sent_here(self) -> list[str]:
        """The parameters whose gradients this exchange sends."""
        return [*self.parameters]

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Around the training: whatever the sums need to come out alike."""
        yield

    @contextmanager
    def whole(self) -> Iterator[None]:
        """While the model is used otherwise than to train: all of it is here."""
        yield

    def model_part(self) -> ModelPart | None:
        """What this rank writes of the model into a checkpoint; None where another rank writes all of it."""
        return ModelPart(file="model", tensors=self.model.state_dict()) if self.runtime.is_main else None

    def load_model(self, saved: SavedModel) -> None:
        """Take over a checkpoint's model."""
        self.model.load_state_dict(saved.whole())

    def lanes(self, batch: Batch) -> Sequence[Batch]:
        """The rows of a step in the pieces whose gradients are summed in a fixed order: here, all of them at once."""
        return [batch]

    def expect(self) -> None:
        """The backward pass that follows is this step's last: what it completes may be sent."""
        self._last = True

    def lane_done(self, losses: Sequence[Tensor]) -> None:
        """A lane's gradients are complete; `losses` are its parts' losses."""
        self._losses = list(losses)

    def complete(self) -> Tensor:
        """Wait until the gradients of all ranks are summed. Returns the loss of this rank's rows."""
        if self.runtime.world_size > 1:
            for name in self._order[len(self._sent) :]:
                self._send(name)
            self._send_others()
            for name, (work, summed) in self._sent.items():
                work.wait()
                self.leaves[name].grad = summed if name in self.tracked else None
                if name in self.parts and name not in self.tracked:
                    self.parts[name].grad = summed
            if not self._order:
                self._order = self._agreed_order()
        self._give_factors()
        self._arrived, self._sent, self._last = {}, {}, False
        return torch.stack(self._losses).sum()

    def gradients(self) -> list[Tensor]:
        """The summed gradients of what this rank updates, and all that are in factors."""
        summed = [part.grad for part in self.parts.values()] + [its.carrier.grad for its in self.tracked.values()]
        return [gradient for gradient in summed if gradient is not None]

    def norm(self) -> Tensor:
        """The joint norm of all gradients, on the device and alike on every rank; infinite or nan where any of them is.

        Each parameter's square comes from the ranks that update it and the rest add zeros, so that where none is cut
        the sum is the same whoever has what.
        """
        some = next(iter(self.parameters.values()))
        squares = torch.zeros(len(self.parameters), device=some.device)
        for index, name in enumerate(self.parameters):
            gradient = self._measured(self.parts[name]) if name in self.parts else None
            if gradient is not None and self.shares[name].saves(self.runtime.rank):
                squares[index] = torch.linalg.vector_norm(gradient) ** 2
        return self.runtime.sum(squares).sum().sqrt()

    @staticmethod
    def _measured(part: nn.Parameter) -> Tensor | None:
        """What has the norm of a part's gradient."""
        found = factors(part)
        return part.grad if found is None else found.left

    def spread(self) -> None:
        """Give the updated parameters to the ranks that did not update them."""
        works: list[Any] = []
        for name, parameter in self.parameters.items():
            share = self.shares[name]
            if share.kind == "cut":
                own = self.parts[name].data
                works.append(dist.all_gather_into_tensor(parameter.data, own, async_op=True))
            elif share.kind == "owned":
                works.append(dist.broadcast(parameter.data, src=share.owner, async_op=True))
        for work in works:
            work.wait()

    def forget(self) -> None:
        """Drop all gradients."""
        for parameter in (*self.parameters.values(), *self.parts.values()):
            parameter.grad = None
        forget_sums((*self.parameters.values(), *self.parts.values()))

    def advance(self) -> None:
        """After an update: refine the bases of gradients in factors."""
        for its in self.tracked.values():
            its.advance()

    def _give_factors(self) -> None:
        """Let each part's optimizer find the rows of a summed gradient in factors."""
        for name, its in self.tracked.items():
            rows = self.shares[name].rows(self.parameters[name].shape, self.runtime.rank, self.runtime.world_size)
            if rows is not None:
                set_factors(self.parts[name], its.factors(*rows))

    # Sending

    def _arrive(self, name: str) -> None:
        """A gradient is accumulated: send it, and those behind it that waited for it."""
        if not self._last:
            return
        self._arrived[name] = None
        while len(self._sent) < len(self._order) and self._order[len(self._sent)] in self._arrived:
            self._send(self._order[len(self._sent)])

    def _send(self, name: str) -> None:
        leaf, share = self.leaves[name], self.shares[name]
        gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad.contiguous()
        leaf.grad = gradient
        work: Any
        if name in self.tracked:
            summed, work = gradient, dist.all_reduce(gradient, async_op=True)
        elif share.kind == "cut":
            summed = torch.empty_like(self.parts[name])
            work = dist.reduce_scatter_tensor(summed, gradient, async_op=True)
        elif share.kind == "owned":
            summed, work = gradient, dist.reduce(gradient, dst=share.owner, async_op=True)
        else:
            summed, work = gradient, dist.all_reduce(gradient, async_op=True)
        self._sent[name] = (work, summed)

    def _send_others(self) -> None:
        """Those that the order does not know: what any rank has a gradient of. The first step's are all of them."""
        others = [name for name in self._sending if name not in self._sent]
        for name in self.with_gradient(others):
            self._send(name)

    def with_gradient(self, names: Sequence[str]) -> list[str]:
        """Those of which any rank has a gradient."""
        if not names:
            return []
        has = torch.tensor([float(self.leaves[name].grad is not None) for name in names])
        return [name for name, any_has in zip(names, self.runtime.sum(has).tolist(), strict=True) if any_has]

    def _agreed_order(self) -> list[str]:
        agreed = [[*self._arrived]]
        dist.broadcast_object_list(agreed)
        return agreed[0]
