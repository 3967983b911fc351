"""Bits per byte: how well a model compresses text it has not seen, whatever its vocabulary.

bpb = Σ nats / (ln 2 · Σ bytes) over the targets that stand for bytes; special tokens are left out of both sums. Beside
it stands the same figure for the best unigram model of the very tokens that were measured: their entropy. No model that
ignores context can be below it. Each row is kept as an example with its own bits per byte, so that two models of one
tokenizer are compared row by row.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from itertools import islice

import torch
from torch import Tensor

from nanochat.data.source import Source
from nanochat.errors import stage_failure
from nanochat.stages.context import Figure
from nanochat.stages.subject import Subject
from nanochat.text.tokenizer import Tokenizer
from nanochat_plugins.evals.bpb_config import BpbConfig

DOCUMENTS_AT_ONCE = 64
SHOWN = 80
"""Characters of a row that its line of the examples' file begins with."""


def evaluate(config: BpbConfig, subject: Subject) -> Mapping[str, Figure]:
    """bpb over all sources, one figure a source where there are several, and the unigram bound."""
    token_bytes = torch.tensor(subject.tokenizer.token_bytes())
    rows = subject.kept.get(config)
    if rows is None:
        rows = subject.kept[config] = all_rows(config, subject)
    measured = {name: measure(name, ids, token_bytes, subject, config.rows) for name, ids in rows.items()}
    digests = {name: digest(ids, subject.tokenizer) for name, ids in rows.items()}
    whole = hashlib.sha256("".join(digests.values()).encode()).hexdigest()
    figures = {"bpb": bits_per_byte(torch.cat(list(measured.values())), whole)}
    if len(measured) > 1:
        figures |= {f"bpb.{name}": bits_per_byte(sums, digests[name]) for name, sums in measured.items()}
    targets = torch.cat([ids[:, 1:] for ids in rows.values()]).long()
    figures["unigram_bpb"] = bits_per_byte(under_own_frequencies(targets, token_bytes), whole)
    return figures


def digest(rows: Tensor, tokenizer: Tokenizer) -> str:
    """Of what rows (N, T+1) of ids stand for."""
    return hashlib.sha256(tokenizer.digest.encode() + rows.contiguous().numpy().tobytes()).hexdigest()


def all_rows(config: BpbConfig, subject: Subject) -> dict[str, Tensor]:
    """Every source's rows (N, T+1). A source too short for one is left out, and said; StageError E302 if all are."""
    sequence_len = subject.model.config.sequence_len
    share = config.tokens // max(1, len(subject.sources))
    found = {name: validation_rows(source, subject, share, sequence_len) for name, source in subject.sources.items()}
    for name, rows in found.items():
        if not len(rows):
            subject.note(f"bpb leaves `{name}` out: its validation split has no row of {sequence_len} tokens")
    found = {name: rows for name, rows in found.items() if len(rows)}
    if not found:
        raise stage_failure(
            "E302",
            f"no validation split has a row of {sequence_len} tokens to measure bpb on",
            help="give the sources more text or a larger validation share, or raise the evaluation's `tokens`",
        )
    return found


def validation_rows(source: Source, subject: Subject, tokens: int, sequence_len: int) -> Tensor:
    """The first `tokens` ids of a validation split as rows (N, T+1) that overlap by one id; N may be 0."""
    ids: list[int] = []
    documents = validation_documents(source)
    while texts := list(islice(documents, DOCUMENTS_AT_ONCE)):
        for encoded in subject.tokenizer.encode_batch(texts):
            ids += [subject.tokenizer.bos_id, *encoded.tolist()]
        if len(ids) > tokens:
            break
    count = min(tokens, len(ids) - 1) // sequence_len
    if count < 1:
        return torch.empty(0, sequence_len + 1, dtype=torch.int32)
    flat = torch.tensor(ids[: count * sequence_len + 1], dtype=torch.int32)
    return flat.unfold(0, sequence_len + 1, sequence_len)


def validation_documents(source: Source) -> Iterator[str]:
    """All documents of the validation split, in order."""
    for shard in source.shards("validation"):
        yield from source.documents(shard)


@torch.no_grad()
def measure(name: str, rows: Tensor, token_bytes: Tensor, subject: Subject, batch_rows: int) -> Tensor:
    """rows (N, T+1) of a source → per row (nats, bytes), (N, 2) float64; the ranks share the rows."""
    sums = torch.zeros(len(rows), 2, dtype=torch.float64)
    for picked in subject.rounds(len(rows), batch_rows):
        if not picked:
            continue
        where = torch.tensor(picked)
        batch = rows[where].long()
        inputs, targets = batch[:, :-1].contiguous(), batch[:, 1:].contiguous()
        device = subject.runtime.device
        nats = subject.model(inputs.to(device), targets.to(device), reduction="none").cpu()
        counted = token_bytes[targets]  # (B, T), 0 for specials
        sums[where, 0] = (nats.double() * (counted > 0)).sum(dim=1)
        sums[where, 1] = counted.sum(dim=1).double()
        for index in picked:
            keep(name, index, rows[index], sums[index], subject)
    return subject.runtime.sum(sums)


def keep(name: str, index: int, row: Tensor, sums: Tensor, subject: Subject) -> None:
    """One line of the examples' file; a row of specials alone has none. sums: the row's nats and bytes."""
    nats, n_bytes = sums.tolist()
    if n_bytes:
        question, score = subject.tokenizer.decode(row.tolist())[:SHOWN], nats / math.log(2) / n_bytes
        subject.keep_example(
            {"task": name, "index": index, "score": score, "lower_is_better": True, "question": question}
        )


def bits_per_byte(sums: Tensor, data: str) -> Figure:
    """Of rows' (nats, bytes), (N, 2). data: a digest."""
    return Figure.of_sums((sums[:, 0] / math.log(2)).tolist(), sums[:, 1].tolist(), data)


def under_own_frequencies(targets: Tensor, token_bytes: Tensor) -> Tensor:
    """Rows' (nats, bytes), (N, 2) float64, where each token of targets (N, T) has its own frequency for probability.

    Specials are left out. That the frequencies are of these very rows adds nothing to the ratio's standard error, to
    first order: an entropy's derivative by a count is the nats of that token.
    """
    counted = token_bytes[targets]  # (N, T), 0 for specials
    counts = torch.bincount(targets[counted > 0], minlength=len(token_bytes)).double()
    nats = -(counts / counts.sum()).log()  # infinite where a token is not among them
    nats = torch.where(counted > 0, nats[targets], 0.0)
    return torch.stack((nats.sum(dim=1), counted.sum(dim=1).double()), dim=1)
