"""The evaluation `newcomer`: how often the likeliest next token of unseen text is the right one."""

import math
from collections.abc import Iterator, Mapping

import torch
from nanochat.stages.context import Figure
from nanochat.stages.subject import Subject

from nanochat_newcomer.config import NewcomerConfig


@torch.no_grad()
def evaluate(config: NewcomerConfig, subject: Subject) -> Mapping[str, Figure]:
    """The share of right guesses over all validation splits. Several processes share the rows."""
    length = subject.model.config.sequence_len
    ids = [i for text in validation_texts(subject) for i in (subject.tokenizer.bos_id, *subject.tokenizer.encode(text))]
    count = min(config.tokens, len(ids) - 1) // length
    rows = torch.tensor(ids[: count * length + 1]).unfold(0, length + 1, length)  # (N, T+1)
    right = torch.zeros(1, dtype=torch.float64)
    for picked in subject.rounds(count, config.rows):
        if picked:
            batch = rows[list(picked)].to(subject.runtime.device)
            guesses = subject.model(batch[:, :-1]).argmax(dim=-1)  # (B, T)
            right += (guesses == batch[:, 1:]).sum().cpu()
    share, n = float(subject.runtime.sum(right)) / (count * length), count * length
    return {"accuracy": Figure(value=share, n=n, standard_error=math.sqrt(share * (1 - share) / n))}


def validation_texts(subject: Subject) -> Iterator[str]:
    """What was held out of the stage's sources."""
    for source in subject.sources.values():
        for shard in source.shards("validation"):
            yield from source.documents(shard)
