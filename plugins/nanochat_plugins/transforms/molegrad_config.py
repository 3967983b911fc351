"""Configuration of `molegrad`: which layers it takes, what it refuses, and the memory that is left."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from nanochat.config import config, option

FFN = ("blocks.*.mlp.up.weight", "blocks.*.mlp.down.weight")
ATTENTION = ("blocks.*.attn.q.weight", "blocks.*.attn.k.weight", "blocks.*.attn.v.weight", "blocks.*.attn.out.weight")
TARGETS = {"ffn_only": FFN, "attention": ATTENTION, "all": FFN + ATTENTION}
DENSE = "use dense gradients: leave the transform molegrad out"


@config
class MolegradConfig:
    """Low-rank streaming gradients: a layer's weight gradient is kept as its product with a tracked basis of `rank_k`
    columns, an MLP's hidden activations are computed again chunk by chunk, and nothing of the size of a gradient or of
    all hidden activations ever stands. Take it for long rows on a small card. What the basis misses is lost to the
    update: beside it, activation_checkpointing gives exact gradients, and saves more where attention's activations are
    the larger part, for a tenth to a third of the speed.
    """

    rank_k: int = option(32, minimum=1, maximum=65_536, doc="columns of the basis, k; below the layers' sides")
    power_iters: int = option(
        1,
        minimum=1,
        maximum=4,
        doc="power iterations of a refinement; each beyond the first computes an MLP twice more, and needs all rows of "
        "a step in one pass and process",
    )
    target_layers: str = option(
        "ffn_only", choices=tuple(TARGETS), doc="the MLPs, the attention's projections (q, k, v, out), or both"
    )
    chunk: int = option(
        512, minimum=1, maximum=2**24, execution=True, doc="tokens whose hidden activations stand at once"
    )
    refresh: int = option(2, minimum=2, maximum=10**9, doc="steps from one refinement of a basis to the next")
    warm_start: int = option(
        100, minimum=0, maximum=10**9, doc="first steps, in which a basis is refined every second step"
    )

    def targets(self, name: str) -> bool:
        """Whether a parameter's gradient is kept in factors."""
        return any(fnmatchcase(name, pattern) for pattern in TARGETS[self.target_layers])

    def columns(self, name: str) -> int:
        """Of the factors of a parameter's gradient; 0 where it is dense."""
        return self.rank_k if self.targets(name) else 0

    def streams(self, block: int) -> int:  # noqa: ARG002 (all blocks alike)
        """Tokens of an MLP whose hidden activations stand at once; 0: they are kept."""
        return 0 if self.target_layers == "attention" else self.chunk

    def refuses(self, shapes: Mapping[str, tuple[int, ...]], beside: Sequence[str]) -> str:
        """What cannot be done to a model of these parameters, beside transforms of these names; or nothing."""
        found = {name: shape for name, shape in shapes.items() if self.targets(name)}
        if not found:
            return f"molegrad finds no {' or '.join(TARGETS[self.target_layers])} in the model: {DENSE}"
        name, shape = min(found.items(), key=lambda its: min(its[1]))
        if self.rank_k >= min(shape):
            least = f"`{name}` of shape {tuple(shape)} has rank {min(shape)} at most"
            return f"rank_k = {self.rank_k} saves nothing: {least}; lower rank_k, or {DENSE}"
        if "molegrad" in beside:
            return "another transform of this stage uses molegrad too, and a layer has one basis: leave one of them out"
        if "fp8" in beside:
            return "molegrad computes layers that fp8 quantises, and would not use 8 bits: leave one of them out"
        return ""

    def lacks(self, hardware: Any, machine: Any) -> str:  # noqa: ARG002 (the contract's)
        """What the hardware of a stage cannot do."""
        if hardware.shard == "full" and hardware.nodes * hardware.nproc_per_node > 1:
            return 'cuts layers that molegrad streams: set shard = "optimizer", or leave the transform molegrad out'
        return ""
