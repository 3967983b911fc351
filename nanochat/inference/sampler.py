"""Choosing the next ids from logits: a pure function over the rows of a batch.

In: logits, what each row may not write, each row's settings and uniform number. Out: one id a row. A row's result
depends on nothing of the other rows.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nanochat.inference.sampling import Sampling
from nanochat.inference.transfer import on_device

GREEDY_BELOW = 1e-4
"""Temperatures that are as good as 0: logits 0.01 apart are then probabilities e^100 apart. 1e-46 is 0 in float32."""


def sample(
    logits: Tensor,  # (B, V) float32
    barred: Tensor,  # (B, V) or (1, V): 0, or −∞ for what a row may not write
    samplings: Sequence[Sampling],
    uniforms: Sequence[float],  # each in (0, 1]
) -> Tensor:
    """The chosen ids (B,) int64: the likeliest where temperature is 0, else by inverting the distribution function.

    None of them is forbidden, whatever the logits and the settings.
    """
    # Finite first: what is forbidden stays below the least of the rest, and no number of a broken model's is none.
    lowest = torch.finfo(logits.dtype).min
    logits = logits.nan_to_num(nan=lowest, neginf=lowest).add_(barred)  # a fifth of what filling by a mask takes
    chosen = likeliest(logits)
    rows = [row for row, sampling in enumerate(samplings) if sampling.temperature >= GREEDY_BELOW]
    if rows:
        places = on_device(rows, logits.device)
        hot = logits[places]
        weights = probabilities(hot, [samplings[row] for row in rows])
        drawn = invert(weights, on_device([uniforms[row] for row in rows], logits.device))
        # Cumulated weights are rounded: what that lets through must not be a way around the grammar.
        refused = hot.gather(-1, drawn[:, None]).squeeze(-1).isneginf()
        chosen[places] = torch.where(refused, chosen[places], drawn)
    return chosen


def likeliest(logits: Tensor) -> Tensor:
    """logits (B, V), no NaN among them → the ids (B,) of the largest."""
    if logits.device.type == "cpu":
        return torch.from_numpy(logits.numpy().argmax(axis=-1))  # NumPy's takes a sixth of torch's time
    return logits.argmax(dim=-1)


def probabilities(logits: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    """logits (B, V) → the distributions (B, V) that are drawn from, after temperature, top-k, top-p, min-p in turn."""
    # Beyond float32 a temperature would be inf, and what is forbidden −inf / inf.
    hottest = torch.finfo(torch.float32).max
    temperature = on_device([min(s.temperature, hottest) for s in samplings], logits.device)[:, None]
    # The highest logit becomes 0 first, so that no temperature makes inf − inf.
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / temperature
    weights = logits.softmax(dim=-1)
    cut = [row for row, s in enumerate(samplings) if s.top_k or s.top_p < 1 or s.min_p]
    if cut:
        places = on_device(cut, weights.device)
        some = weights[places]
        least = _least_kept(some, [samplings[row] for row in cut])  # (rows, 1)
        weights[places] = some.masked_fill(some < least, 0.0)
    return weights / weights.sum(dim=-1, keepdim=True)


def _least_kept(weights: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    """The smallest probability (B, 1) that top-k, top-p and min-p keep; equal ones are kept together."""
    V = weights.size(-1)
    device = weights.device
    most = [min(s.top_k or V, V) for s in samplings]
    top_k = on_device(most, device)[:, None]
    top_p = on_device([s.top_p for s in samplings], device, torch.float32)[:, None]
    min_p = on_device([s.min_p for s in samplings], device, torch.float32)[:, None]
    # No more are put in order than can be kept: of 32,768 the 50 likeliest take a tenth of the time.
    ordered = weights.topk(max(most), dim=-1).values
    ordered = ordered * (torch.arange(ordered.size(-1), device=device) < top_k)
    before = ordered.cumsum(dim=-1) - ordered  # what the likelier ones hold together
    kept = (before < top_p * ordered.sum(dim=-1, keepdim=True)) & (ordered > 0)
    last = kept.sum(dim=-1, keepdim=True).clamp(min=1) - 1
    return torch.maximum(ordered.gather(-1, last), min_p * ordered[:, :1])


def invert(weights: Tensor, uniforms: Tensor) -> Tensor:
    """weights (B, V) ≥ 0, uniforms (B,) in (0, 1] → ids (B,): the first whose cumulated weight reaches uniform · total.

    As the uniform is above 0, an id of weight 0 is never chosen.
    """
    cumulated = weights.cumsum(dim=-1)
    reached = torch.searchsorted(cumulated, uniforms[:, None] * cumulated[:, -1:])
    return reached.squeeze(-1).clamp(max=weights.size(-1) - 1)
