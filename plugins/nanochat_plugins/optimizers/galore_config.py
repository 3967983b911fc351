"""Configuration of `galore`: what it refuses, and the bytes that it needs."""

from collections.abc import Mapping, Sequence

from nanochat.config import Problem, config, option


@config
class GaLoreConfig:
    """AdamW whose moments live in a low-rank space of the gradient (GaLore, arXiv 2403.03507): of a matrix (m, n) it
    keeps `rank` columns of its longer side, and a basis of its shorter one. Take it where AdamW's moments are what does
    not fit; gradients and activations stay dense, and `molegrad` is for those.
    """

    lr: float = option(0.01, minimum=0.0, maximum=1e3, doc="learning rate at its peak, before lr_factor and `scale`")
    rank: int = option(128, minimum=1, maximum=65_536, doc="columns of the basis; below the matrices' sides")
    update_gap: int = option(200, minimum=1, maximum=10**9, doc="steps from one SVD of the gradient to the next, T")
    scale: float = option(0.25, minimum=0.0, maximum=1e3, doc="factor of an update that was projected back, α")
    beta1: float = option(0.9, minimum=0.0, maximum=1.0, doc="decay a step of the mean projected gradient")
    beta2: float = option(0.999, minimum=0.0, maximum=1.0, doc="decay a step of the mean squared projected gradient")
    eps: float = option(1e-8, minimum=0.0, maximum=1.0, doc="added to the root of the mean squared gradient")
    weight_decay: float = option(0.0, minimum=0.0, maximum=1e6, doc="share of a weight that a step takes off, over lr")

    def problems(self) -> list[Problem]:
        """A beta of 1 would never take up a gradient; torch refuses it."""
        return [(name, f"{name} is below 1") for name in ("beta1", "beta2") if getattr(self, name) >= 1.0]

    def refuses(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """What is no matrix has no singular vectors, and a basis of the whole space saves nothing."""
        for name, shape in shapes.items():
            if len(shape) != 2:
                return f"galore was given `{name}` of shape {shape}, which is no matrix: match it by a group with adamw"
            if self.rank >= min(shape):
                least = f"`{name}` of shape {shape} has rank {min(shape)} at most"
                return f"rank = {self.rank} projects nothing away: {least}; lower rank, or use adamw"
        return ""

    def state_bytes(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """Two float32 moments (longer side, rank) and the basis (shorter side, rank) of every matrix."""
        return sum(4 * self.rank * (2 * max(shape) + min(shape)) for shape in shapes)

    def workspace_bytes(self, shapes: Sequence[tuple[int, ...]], *, element_bytes: int) -> int:  # noqa: ARG002
        """Projected gradients and updates of all matrices, and one SVD: a copy, both sides' vectors, LAPACK's room."""
        projected = sum(2 * 4 * self.rank * max(shape) for shape in shapes)
        return projected + max(4 * (2 * m * n + 5 * min(m, n) ** 2) for m, n in shapes)
