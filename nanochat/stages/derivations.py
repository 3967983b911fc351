"""The rules behind "auto" that belong to no single model: hardware, and how batch, steps and rates follow from depth.

One dial, depth: d12 is the reference at which the rates were tuned, and every other depth is scaled from it. Pure
functions of other values of the recipe; no torch.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import attrs

from nanochat.config import Derivation
from nanochat.hardware import Machine, default_device, default_dtype
from nanochat.model import gpt_config
from nanochat.model.gpt_config import GPTConfig
from nanochat.model.sizes import matrix_parameters

REFERENCE_DEPTH = 12
REFERENCE_DIM = 768
REFERENCE_BATCH = 2**19
"""Tokens of a step at the reference depth."""
BATCH_EXPONENT = 0.383
"""arXiv 2505.13738: the best batch grows with this power of the training tokens."""
REFERENCE_WEIGHT_DECAY = 0.28
FASTEST_DECAY = 0.05
"""The largest share of a weight that decay takes off in a step, at the peak learning rate: 1 − 0.95. Weights are a
moving average of updates over 1 / (lr · wd) steps (arXiv 2405.13698), and an update is itself an average over the 20
steps of Muon's momentum; decay that is faster than momentum forgets an update before the momentum has given it.
`nanochat-run recipes/quickstart.toml --until base --set stages.base.optim.matrices.weight_decay=…`, 150 steps at lr
0.02: bpb 1.081 at 0, 1.077 at 0.5, 1.072 at 2.5, which is this bound, 1.115 at 41.8, which the rule gave without it."""


def _nproc(device: str, machine: Machine) -> int:
    return max(1, machine.cuda_devices) if device == "cuda" else 1


def _launcher(nodes: int, nproc_per_node: int) -> str:
    return "torchrun" if nodes * nproc_per_node > 1 else "local"


def _shard(nodes: int, nproc_per_node: int) -> str:
    return "optimizer" if nodes * nproc_per_node > 1 else "none"


def _scaling_parameters(model: Any) -> tuple[int, int]:
    """N of the scaling rules, of the model and of the same configuration at the reference depth."""
    if not isinstance(model, GPTConfig):
        raise ValueError(f"the scaling rules know `gpt`, not a {type(model).__qualname__}")
    dim = gpt_config.DIM.compute(REFERENCE_DEPTH, model.aspect_ratio, model.head_dim)
    n_head = gpt_config.N_HEAD.compute(dim, model.head_dim)
    n_kv_head = gpt_config.N_KV_HEAD.compute(n_head)
    reference = attrs.evolve(cast(Any, model), depth=REFERENCE_DEPTH, dim=dim, n_head=n_head, n_kv_head=n_kv_head)
    return matrix_parameters(model.layout()), matrix_parameters(reference.layout())


def total_batch_size(model: Any) -> int:
    """B = 2^round(log2(2^19·(D/D12)^0.383)) tokens. D = tokens_per_param × N at both depths, so their ratio is N's."""
    n, n12 = _scaling_parameters(model)
    return int(2 ** round(math.log2(REFERENCE_BATCH * (n / n12) ** BATCH_EXPONENT)))


def steps(tokens_per_param: float, target_flops: float | None, model: Any, total_batch_size: int) -> int:
    """D / B, where D is what target_flops train, or without them tokens_per_param × N tokens; at least one."""
    if target_flops is not None:
        tokens = target_flops / _flops_per_token(model)
    else:
        tokens = tokens_per_param * _scaling_parameters(model)[0]
    return max(1, round(tokens / total_batch_size))


def _flops_per_token(model: Any) -> int:
    if not callable(getattr(model, "flops_per_token", None)):
        raise ValueError(f"a {type(model).__qualname__} does not say its FLOPs a token")
    return int(model.flops_per_token())


def lr_factor(scale_lr: Sequence[str], total_batch_size: int | None, dim: int | None) -> float:
    """The product of what the group asks for: √(B/2^19) for the batch, (dim/768)^-½ for the width."""
    factor = 1.0
    if "batch" in scale_lr:
        if total_batch_size is None:
            raise ValueError("the stage has no total_batch_size")
        factor *= math.sqrt(total_batch_size / REFERENCE_BATCH)
    if "width" in scale_lr:
        if dim is None:
            raise ValueError("the model has no `dim`, or does not say it")
        factor *= (dim / REFERENCE_DIM) ** -0.5
    return factor


def muon_weight_decay(
    tokens_per_param: float | None,
    model: Any,
    total_batch_size: int | None,
    steps: int | None,
    lr: float,
    lr_factor: float,
) -> float:
    """.28·√(B/2^19)·D12/D (arXiv 2405.13698), at most FASTEST_DECAY / lr. 0 where a stage has no horizon.

    D12 is tokens_per_param × N at the reference depth; D is what is trained on, steps × B, whatever decided it. So
    lr · wd · steps, the number of times that a run's weights are forgotten, is the same for every depth and horizon;
    in runs of few steps the bound keeps it lower.
    """
    if tokens_per_param is None or total_batch_size is None or steps is None:
        return 0.0
    _, n12 = _scaling_parameters(model)
    batch = math.sqrt(total_batch_size / REFERENCE_BATCH)
    decay = REFERENCE_WEIGHT_DECAY * batch * tokens_per_param * n12 / (steps * total_batch_size)
    peak = lr * lr_factor
    return min(decay, FASTEST_DECAY / peak) if peak else decay


def tag(inherited: str | None, model: Any) -> str:
    """The tag of the checkpoint that the stage starts from, else the model's own, such as d20_w1280_h10."""
    return inherited or (model.tag() if callable(getattr(model, "tag", None)) else "model")


def pays_compiled(device: str) -> bool:
    """Where a step is faster compiled. On two CPU cores a d2 with a vocabulary of 8,192 (T 512, 4,096 tokens) takes
    1.22 s after 37 s of compiling, and 1.26 s without: the pieces that a compiler would fuse are written by hand.
    """
    return device == "cuda"


DEVICE = Derivation(
    inputs={"machine": "machine"}, compute=default_device, sentence="the fastest kind of device of this machine"
)
DTYPE = Derivation(
    inputs={"device": "device", "machine": "machine"},
    compute=default_dtype,
    sentence="bfloat16 on cuda from compute capability 8.0 on, float32 on everything else",
)
NPROC_PER_NODE = Derivation(
    inputs={"device": "device", "machine": "machine"},
    compute=_nproc,
    sentence="one process for each CUDA device, one on everything else",
)
LAUNCHER = Derivation(
    inputs={"nodes": "nodes", "nproc_per_node": "nproc_per_node"},
    compute=_launcher,
    sentence="torchrun for several processes; local for one, which starts in half the time without an agent over it",
)
SHARD = Derivation(
    inputs={"nodes": "nodes", "nproc_per_node": "nproc_per_node"},
    compute=_shard,
    sentence="none for one process, optimizer for several",
)
TOTAL_BATCH_SIZE = Derivation(
    inputs={"model": "stage.model"},
    compute=total_batch_size,
    sentence="2^19 tokens at depth 12, growing with the training tokens to the power 0.383, to a power of 2",
)
STEPS = Derivation(
    inputs={
        "tokens_per_param": "stage.tokens_per_param",
        "target_flops": "stage.target_flops",
        "model": "stage.model",
        "total_batch_size": "stage.total_batch_size",
    },
    compute=steps,
    sentence="target_flops / FLOPs a token, or else tokens_per_param × matmul parameters, over total_batch_size",
)
TAG = Derivation(
    inputs={"inherited": "stage.init.tag?", "model": "stage.model?"},
    compute=tag,
    sentence="the tag of the checkpoint that it starts from; else depth, width and heads of the model",
)
COMPILE = Derivation(
    inputs={"device": "hardware.device"},
    compute=pays_compiled,
    sentence="on cuda; a CPU runs a compiled step no faster",
)
LR_FACTOR = Derivation(
    inputs={
        "scale_lr": "slot.scale_lr",
        "total_batch_size": "stage.total_batch_size?",
        "dim": "stage.model.dim?",
    },
    compute=lr_factor,
    sentence="√(total_batch_size / 2^19) for batch, (dim / 768)^-½ for width, as scale_lr asks",
)
MUON_WEIGHT_DECAY = Derivation(
    inputs={
        "tokens_per_param": "stage.tokens_per_param?",
        "model": "stage.model",
        "total_batch_size": "stage.total_batch_size?",
        "steps": "stage.steps?",
        "lr": "lr",
        "lr_factor": "slot.lr_factor",
    },
    compute=muon_weight_decay,
    sentence="0.28 · √(total_batch_size / 2^19) · (tokens at depth 12) / (tokens of this run), at most 0.05 / lr",
)
