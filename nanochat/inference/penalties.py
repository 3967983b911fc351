"""Logits changed by what was written before: repetition, presence and frequency penalties, and a bias of one's own.

In: logits, each row's settings and ids. Out: logits. Rows that ask for nothing are left alone, to the last bit.
"""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from nanochat.inference.sampling import Sampling
from nanochat.inference.transfer import on_device


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
        seen = on_device(list(set(ids)), logits.device)
        found = logits[seen]
        penalty = sampling.repetition_penalty
        logits[seen] = torch.where(found > 0, found / penalty, found * penalty)
    if counts := Counter(ids[prompt:]):
        taken = [sampling.presence_penalty + sampling.frequency_penalty * count for count in counts.values()]
        logits[on_device(list(counts), logits.device)] -= on_device(taken, logits.device)
    if bias := sampling.logit_bias:
        logits[on_device(list(bias), logits.device)] += on_device(list(bias.values()), logits.device)
