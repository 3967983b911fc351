"""Configuration of `muon`. Each refinement is a switch; the defaults are the current recipe of the field. It also
knows the bytes that `nanochat_plugins.optimizers.muon` needs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from nanochat.config import config, option


@config
class MuonConfig:
    """Momentum whose step is orthogonalised. Take it for the matrices of the blocks, where it needs fewer steps than
    AdamW and half its memory; embeddings, the head and single numbers are for another one.
    """

    lr: float = option(
        0.02, minimum=0.0, maximum=1e3, doc="learning rate at its peak, times √max(1, rows/columns) of each matrix"
    )
    momentum: float = option(0.95, minimum=0.0, maximum=1.0, doc="where no schedule sets it")
    weight_decay: float = option(
        derive="muon.weight_decay",
        minimum=0.0,
        maximum=1e6,
        doc="share of a weight that a step takes off, over lr; the schedule scales it",
    )
    nesterov: bool = option(True, doc="step along the gradient mixed with its momentum, not the momentum alone")
    orthogonalization: str = option(
        "polar_express",
        choices=("polar_express", "newton_schulz"),
        doc="coefficients that change by iteration (arXiv 2505.16932), or three fixed ones",
    )
    iterations: int = option(5, minimum=1, maximum=5, doc="steps of the orthogonalisation")
    row_equilibration: bool = option(True, doc="rescale rows to their mean norm first (arXiv 2603.28254)")
    renormalization: bool = option(True, doc="Frobenius norm to √min(rows, columns) after it (arXiv 2602.21545)")
    variance_reduction: bool = option(True, doc="NorMuon's second moment a row or column (arXiv 2510.05491)")
    beta2: float = option(0.9, minimum=0.0, maximum=1.0, doc="decay of that second moment")
    cautious: bool = option(True, doc="decay a weight only where the update shrinks it too")
    factored_momentum: bool = option(
        False, doc="beside molegrad: the momentum is kept in the gradient's basis too, and forgets what leaves that"
    )

    def refuses(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """What is no matrix cannot be orthogonalised."""
        others = (f"`{name}` of shape {tuple(shape)}" for name, shape in shapes.items() if len(shape) != 2)
        found = next(others, "")
        return f"muon was given {found}, which is no matrix: match it by a group that uses adamw" if found else ""

    def state_bytes(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """The momentum of every number; the variance of every row, or of every column where a matrix is wide."""
        return sum(4 * (m * n + self.variance_reduction * max(m, n)) for m, n in shapes)

    def workspace_bytes(self, shapes: Sequence[tuple[int, ...]], *, element_bytes: int) -> int:
        """The most that a step holds beside parameters, gradients and state: stacks are updated one after another."""
        stacks = Counter(shapes)
        return max(self._stack_bytes(count, m, n, element_bytes) for (m, n), count in stacks.items())

    def _stack_bytes(self, count: int, m: int, n: int, element_bytes: int) -> int:
        numbers, gram = count * m * n, count * min(m, n) ** 2
        weights = gradients = 4 * numbers  # stacked; the gradients until what follows from them is orthogonal
        before = 4 * numbers * (self.row_equilibration + (not self.nesterov))  # what is orthogonalised, if a copy
        iteration = before + element_bytes * (2 * numbers + 2 * gram)  # X and the next X, A and bA + cA²
        cast = before + (4 + element_bytes) * numbers if element_bytes != 4 else 0
        # The update, the decayed weights, these times the rate, the sum of both.
        applied = 4 * numbers * (3 + self.cautious)
        return weights + max(gradients + max(iteration, cast), applied)
