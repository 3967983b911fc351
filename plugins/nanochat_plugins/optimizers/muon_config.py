"""Configuration of `muon`. Each refinement is a switch; the defaults are the current recipe of the field."""

from nanochat.config import config, option


@config
class MuonConfig:
    """Momentum, orthogonalised."""

    lr: float = option(0.02, minimum=0.0, doc="learning rate at its peak, times √max(1, rows/columns) of each matrix")
    momentum: float = option(0.95, minimum=0.0, maximum=1.0, doc="where no schedule sets it")
    weight_decay: float = option(
        derive="muon.weight_decay",
        minimum=0.0,
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
