"""Logits changed by what was written before: repetition, presence and frequency penalties, and a bias of one's own.

In: logits, each row's settings and ids. Out: logits. Rows that ask for nothing are left alone, to the last bit.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nanochat.inference.sampling import Sampling


def adjusted(
    logits: Tensor,  # (B, V) float32
    samplings: Sequence[Sampling],
    ids: Sequence[Sequence[int]],  # of each row: the prompt and what was written
    prompts: Sequence[int],  # how many of them are the prompt
) -> Tensor:
    """The logits (B, V) that are sampled from.

    Repetition counts prompt and answer (arXiv 1909.05858, section 4.1); presence and frequency the answer alone, as in
    OpenAI's API: logit − presence·[count > 0] − frequency·count.
    """
    rows = [row for row, sampling in enumerate(samplings) if _changes(sampling)]
    if not rows:
        return logits
    logits = logits.clone()
    for row in rows:
        _adjust(logits[row], samplings[row], ids[row], prompts[row])
    return logits


def _changes(sampling: Sampling) -> bool:
    penalties = sampling.presence_penalty or sampling.frequency_penalty or sampling.repetition_penalty != 1
    return bool(penalties or sampling.logit_bias)


def _adjust(logits: Tensor, sampling: Sampling, ids: Sequence[int], prompt: int) -> None:
    """Change one row's logits (V,) in place."""
    if sampling.repetition_penalty != 1:
        seen = torch.tensor(sorted(set(ids)), device=logits.device)
        found = logits[seen]
        penalty = sampling.repetition_penalty
        logits[seen] = torch.where(found > 0, found / penalty, found * penalty)
    written, counts = torch.tensor(ids[prompt:], dtype=torch.int64, device=logits.device).unique(return_counts=True)
    if written.numel():
        logits[written] -= sampling.presence_penalty + sampling.frequency_penalty * counts
    if sampling.logit_bias:
        tokens, biases = sampling.logit_bias.keys(), sampling.logit_bias.values()
        logits[torch.tensor(list(tokens), device=logits.device)] += torch.tensor(list(biases), device=logits.device)
