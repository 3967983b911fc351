"""Bits per byte: how well a model compresses text it has not seen, whatever its vocabulary.

bpb = Σ nats / (ln 2 · Σ bytes) over the targets that stand for bytes; special tokens are left out of both sums. Beside
it stands the same figure for the best unigram model of the very tokens that were measured: their entropy. No model that
ignores context can be below it.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from nanochat.data.source import Source
from nanochat.errors import Stopped, stage_failure
from nanochat.stages.context import Figure
from nanochat.stages.subject import Subject
from nanochat_plugins.evals.bpb_config import BpbConfig


def evaluate(config: BpbConfig, subject: Subject) -> Mapping[str, Figure]:
    """bpb over all sources, one figure a source where there are several, and the unigram bound."""
    token_bytes = torch.tensor(subject.tokenizer.token_bytes(), device=subject.runtime.device)
    share = config.tokens // max(1, len(subject.sources))
    rows = {
        name: validation_rows(source, subject, share, subject.model.config.sequence_len)
        for name, source in subject.sources.items()
    }
    measured = {name: measure(ids, token_bytes, subject, config.rows) for name, ids in rows.items()}
    figures = {"bpb": ratio_figure(torch.cat(list(measured.values())))}
    if len(measured) > 1:
        figures |= {f"bpb.{name}": ratio_figure(sums) for name, sums in measured.items()}
    targets = torch.cat([ids[:, 1:].flatten() for ids in rows.values()])
    figures["unigram_bpb"] = Figure(value=unigram_bpb(targets.to(token_bytes.device), token_bytes), n=len(targets))
    return figures


def validation_rows(source: Source, subject: Subject, tokens: int, sequence_len: int) -> Tensor:
    """The first `tokens` ids of a validation split as rows (N, T+1) that overlap by one id."""
    ids: list[int] = []
    for text in validation_documents(source):
        ids += [subject.tokenizer.bos_id, *subject.tokenizer.encode(text)]
        if len(ids) > tokens:
            break
    count = min(tokens, len(ids) - 1) // sequence_len
    if count < 1:
        raise stage_failure(
            "E302",
            f"the validation split has {len(ids)} tokens, less than one row of {sequence_len}",
            help="give the source more text, or a larger validation share",
        )
    return torch.tensor(ids[: count * sequence_len + 1]).unfold(0, sequence_len + 1, sequence_len)


def validation_documents(source: Source) -> Iterator[str]:
    """All documents of the validation split, in order."""
    for shard in source.shards("validation"):
        yield from source.documents(shard)


@torch.no_grad()
def measure(rows: Tensor, token_bytes: Tensor, subject: Subject, batch_rows: int) -> Tensor:
    """rows (N, T+1) → per row (nats, bytes), (N, 2) float64; the ranks share the rows."""
    runtime = subject.runtime
    sums = torch.zeros(len(rows), 2, dtype=torch.float64, device=runtime.device)
    mine = torch.arange(runtime.rank, len(rows), runtime.world_size)
    for picked in mine.split(batch_rows):
        if subject.should_stop():
            raise Stopped
        batch = rows[picked].to(runtime.device)
        targets = batch[:, 1:].contiguous()
        counted = token_bytes[targets]  # (B, T), 0 for specials
        nats = subject.model(batch[:, :-1].contiguous(), targets, reduction="none")
        where = picked.to(runtime.device)
        sums[where, 0] = (nats.double() * (counted > 0)).sum(dim=1)
        sums[where, 1] = counted.sum(dim=1).double()
    return runtime.sum(sums)


def ratio_figure(sums: Tensor) -> Figure:
    """Bits per byte of rows' (nats, bytes), with the standard error of a ratio of sums over rows."""
    nats, counted = sums[:, 0], sums[:, 1]
    ratio = float(nats.sum() / counted.sum())
    spread = float((nats - ratio * counted).square().sum().sqrt() / counted.sum())
    return Figure(value=ratio / math.log(2), n=len(sums), standard_error=spread / math.log(2))


def unigram_bpb(targets: Tensor, token_bytes: Tensor) -> float:
    """The entropy of targets (N,) under their own frequencies, in bits per byte; specials left out."""
    targets = targets[token_bytes[targets] > 0]
    counts = torch.bincount(targets, minlength=len(token_bytes)).double()
    bits = -(counts * (counts / counts.sum()).clamp(min=1e-300).log2()).sum()
    return float(bits / token_bytes[targets].sum())
