"""`shard = "full"`: weights, gradients and optimizer state all cut over the processes, by torch's FSDP2.

A process holds rows of each parameter; a block's weights are gathered for its forward pass and again for its backward
pass, and its gradients come back as the sum of these rows. Number-by-number optimizers update rows as they lie. A
matrix that must be whole (muon's) is gathered, weight and gradient, to the one process that owns it, updated there, and
its rows scattered again. Small parameters stay everybody's. A model begins whole on every process, and an evaluation
makes it whole for as long as it lasts: its generating calls no module as training does.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from nanochat.runtime import Runtime
from nanochat.training.exchange import Exchange
from nanochat.training.saved_model import ModelPart, SavedModel, part_of_rank
from nanochat.training.share import Share


class FullExchange(Exchange):
    """The exchange of a model that is cut over the processes; making it cuts the model."""

    def __init__(self, model: nn.Module, shares: Mapping[str, Share], runtime: Runtime) -> None:
        small = {p for name, p in model.named_parameters() if shares[name].kind == "replicated"}
        for unit in _units(model, small):
            fully_shard(unit, reshard_after_forward=unit is not model, ignored_params=small)
        for module in _sharded(model):
            module.set_gradient_divide_factor(1.0)  # losses are divided by all targets already
            module.set_force_sum_reduction_for_comms(True)  # gloo and NCCL alike
        self._gathered: list[str] = []
        """The matrices that this step's update has on their owners."""
        super().__init__(model, shares, runtime)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Gather all weights, and keep them until the end: ranks evaluate different rows, and need not call alike."""
        for module in _sharded(self.model):
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()
        try:
            yield
        finally:
            for index, module in enumerate(_sharded(self.model)):
                module.reshard()
                module.set_reshard_after_forward(index > 0, recurse=False)  # the root comes first

    def model_part(self) -> ModelPart:
        """The rows that are here, and on the main rank what is everybody's. Nothing is gathered."""
        cut = {name for name, share in self.shares.items() if share.kind != "replicated"}
        held = {name: (start, rows) for name, start, rows in self._held() if name in cut or self.runtime.is_main}
        return part_of_rank(self.runtime.rank, held)

    def load_model(self, saved: SavedModel) -> None:
        """Read the rows that are kept here, and no others."""
        for name, start, rows in self._held():
            rows.copy_(saved.rows(name, start, start + (len(rows) if rows.dim() else 1)))

    def _held(self) -> Iterator[tuple[str, int, Tensor]]:
        """What is here of the model's state, over the same memory: name, place of the first row in the whole, rows."""
        for name, tensor in self.model.state_dict().items():
            if not isinstance(tensor, DTensor):
                yield name, 0, tensor
            elif len(rows := _rows_of(tensor)):
                yield name, self.runtime.rank * -(-len(tensor) // self.runtime.world_size), rows

    def complete(self) -> Tensor:
        """The gradients of this rank's rows; of its own matrices the whole gradients, and the weights."""
        loss = super().complete()
        for name, parameter in self.parameters.items():
            share = self.shares[name]
            if share.kind == "replicated" or parameter.grad is None:
                continue
            gradient = _rows_of(parameter.grad)
            if share.kind == "cut":
                if name in self.parts:
                    self.parts[name].grad = gradient
                continue
            self._gathered.append(name)
            whole_gradient = _gather(gradient, parameter.shape, share.owner)
            weight = _gather(_rows_of(parameter), parameter.shape, share.owner)
            parameter.grad = None
            if whole_gradient is not None and weight is not None:
                part = self.parts[name]
                part.untyped_storage().resize_(weight.untyped_storage().size())
                part.data.copy_(weight)
                part.grad = whole_gradient
        return loss

    def spread(self) -> None:
        """Send the rows of whole matrices back to where they are kept."""
        for name in self._gathered:
            parameter, part = self.parameters[name], self.parts.get(name)
            whole = None if part is None else part.data
            _scatter(whole, _rows_of(parameter), parameter.shape, self.shares[name].owner)
            if part is not None:
                part.untyped_storage().resize_(0)
        self._gathered = []

    def forget(self) -> None:
        """Drop all gradients, and matrices that were gathered for an update that was not made."""
        for name in self._gathered:
            if name in self.parts:
                self.parts[name].untyped_storage().resize_(0)
        self._gathered = []
        super().forget()

    def _part(self, name: str, rows: tuple[int, int]) -> nn.Parameter:  # noqa: ARG002
        """Rows as they lie; for a whole matrix a place that is filled from a step's gradients to its update."""
        parameter, kind = self.parameters[name], self.shares[name].kind
        if kind == "replicated":
            return parameter
        own = _rows_of(parameter)
        return nn.Parameter(own if kind == "cut" else own.new_empty(parameter.shape))

    def _sent_here(self) -> list[str]:
        return [name for name in self.parameters if self.shares[name].kind == "replicated"]


def _units(model: nn.Module, small: set[nn.Parameter]) -> list[nn.Module]:
    """What is gathered at once: each block, that is each member of a list or dictionary of modules, then the rest."""
    found = [
        child
        for module in model.modules()
        if isinstance(module, nn.ModuleList | nn.ModuleDict)
        for child in module.children()
        if not all(parameter in small for parameter in child.parameters())
    ]
    rest = set(model.parameters()) - small - {p for child in found for p in child.parameters()}
    if len({parameter.dtype for parameter in rest}) > 1:  # a unit has one: embedding_dtype is not the head's
        found += [child for child in model.children() if isinstance(child, nn.Embedding)]
    return [*found, model]


def _sharded(model: nn.Module) -> list[FSDPModule]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def _rows_of(parameter: Any) -> Tensor:
    """This rank's rows of a sharded tensor, over the same memory."""
    rows: Tensor = parameter.detach().to_local()
    return rows


def _padded(rows: Tensor, shape: torch.Size) -> Tensor:
    """Rows with as many more as the largest share has: all ranks send alike."""
    piece = -(-shape[0] // dist.get_world_size())
    if rows.size(0) == piece:
        return rows.contiguous()
    padded = rows.new_zeros(piece, *shape[1:])
    padded[: rows.size(0)] = rows
    return padded


def _gather(rows: Tensor, shape: torch.Size, owner: int) -> Tensor | None:
    """The whole tensor on its owner, None elsewhere."""
    padded = _padded(rows, shape)
    pieces = [torch.empty_like(padded) for _ in range(dist.get_world_size())] if dist.get_rank() == owner else None
    dist.gather(padded, pieces, dst=owner)
    return None if pieces is None else torch.cat(pieces)[: shape[0]]


def _scatter(whole: Tensor | None, rows: Tensor, shape: torch.Size, owner: int) -> None:
    """Fill every rank's rows from the owner's whole tensor."""
    received = torch.empty_like(_padded(rows, shape))
    pieces = None
    if whole is not None:
        padded = whole.new_zeros(received.size(0) * dist.get_world_size(), *shape[1:])
        padded[: shape[0]] = whole
        pieces = list(padded.chunk(dist.get_world_size()))
    dist.scatter(received, pieces, src=owner)
    rows.copy_(received[: rows.size(0)])
